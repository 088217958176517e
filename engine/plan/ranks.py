"""What each of several ranks holds where they divide it among them (ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054)."""

from dataclasses import replace
from typing import NamedTuple

from engine.plan.memory import MemoryPlan

_FP32 = 4


class Division(NamedTuple):
    """A stage of ZeRO, and what a rank holds in it."""

    stage: int
    plan: MemoryPlan


def divided(plan: MemoryPlan, trained_weights: int, *, stage: int, ranks: int) -> MemoryPlan:
    """`plan` is that of a rank that holds all. DeepSpeed updates a copy in fp32 of the part that is a rank's own."""
    if stage == 0:
        return plan
    masters = _part(_FP32 * trained_weights, ranks)
    return replace(
        plan,
        optimizer=_part(plan.optimizer, ranks),
        gradients=plan.gradients if stage < 2 else _part(plan.gradients, ranks),
        weights=masters + (plan.weights if stage < 3 else _part(plan.weights, ranks)),
    )


def least_division(plan: MemoryPlan, trained_weights: int, *, ranks: int, room_bytes: int, most: int = 3) -> Division:
    """The lowest stage that fits a rank's room, since each sends more than the one before; else the highest."""
    tried = [Division(stage, divided(plan, trained_weights, stage=stage, ranks=ranks)) for stage in range(most + 1)]
    return next((division for division in tried if division.plan.total <= room_bytes), tried[-1])


def _part(size: int, ranks: int) -> int:
    return -(-size // ranks)
