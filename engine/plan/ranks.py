"""What each of several ranks holds where they divide it among them (ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054)."""

from collections.abc import Callable
from dataclasses import replace

from engine.errors import SpecError
from engine.plan.memory import MemoryPlan, moments, trained_weights
from engine.plan.setting import Setting
from engine.plan.shape import Shape
from engine.plan.workload import Workload

_FP32 = 4
STAGES = (1, 2, 3)
"""Of ZeRO. 0: each rank holds all."""


def divided(plan: MemoryPlan, trained: int, *, stage: int, ranks: int) -> MemoryPlan:
    """`plan` is that of a rank that holds all, `trained` the weights that learn.

    DeepSpeed updates a copy in fp32 of the part that is a rank's own.
    """
    if stage == 0:
        return plan
    masters = _part(_FP32 * trained, ranks)
    return replace(
        plan,
        optimizer=_part(plan.optimizer, ranks),
        gradients=plan.gradients if stage < 2 else _part(plan.gradients, ranks),
        weights=masters + (plan.weights if stage < 3 else _part(plan.weights, ranks)),
    )


def plan_of_rank(shape: Shape, work: Workload, setting: Setting, *, stage: int, ranks: int) -> MemoryPlan:
    """Where each moment is divided, another may be the one that holds most.

    Raises:
        SpecError: no plan is made for this kind of tuning, or it cannot be divided so far.
    """
    refusal = undividable(setting, stage) if stage else None
    if refusal:
        raise refusal
    trained = trained_weights(shape, setting)
    held = (divided(plan, trained, stage=stage, ranks=ranks) for plan in moments(shape, work, setting))
    return max(held, key=lambda plan: plan.total)


def least_stage(needed: Callable[[int], int], setting: Setting, *, ranks: int, room_bytes: int) -> int:
    """The lowest that fits a rank's room, since each sends more than the one before; else the highest there can be.

    `needed` are the bytes of a rank at a stage.
    """
    stages = [0, *(stage for stage in STAGES if ranks > 1 and undividable(setting, stage) is None)]
    return next((stage for stage in stages if needed(stage) <= room_bytes), stages[-1])


def undividable(setting: Setting, stage: int) -> SpecError | None:
    """Why ranks cannot divide so much of a job, if they cannot."""
    asked, hyper = f"resources.parallel.zero_stage is {stage}", setting.hyperparameters
    if hyper.optim == "adamw_8bit":
        return SpecError(
            "zero_with_8_bits",
            f"{asked}; the optimizer's 8-bit state is kept in blocks of whole weights, which ZeRO divides",
            "Set hyperparameters.optim to 'adamw', or zero_stage to 0.",
        )
    if hyper.offload_optimizer and setting.device != "cpu":
        return SpecError(
            "zero_with_offload",
            f"{asked}; it divides the optimizer's state on the GPUs and does not move it off them",
            "Set hyperparameters.offload_optimizer to false, or zero_stage to 0.",
        )
    if setting.precision == "fp16":
        return SpecError("zero_with_fp16", f"{asked}; it takes bf16 and fp32", "Set hyperparameters.precision.")
    if stage == max(STAGES) and setting.quantized:
        return SpecError(
            "zero_3_in_4_bits", f"{asked}; weights in 4 bits cannot be divided", "Set zero_stage to 2 or less."
        )
    return None


def _part(size: int, ranks: int) -> int:
    return -(-size // ranks)
