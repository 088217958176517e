"""What each of several ranks holds where they divide it among them (ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054)."""

from collections.abc import Callable
from dataclasses import replace

from engine.errors import SpecError
from engine.plan.memory import MemoryPlan, moments
from engine.plan.setting import Setting
from engine.plan.shape import GPT2, Shape
from engine.plan.weights import largest_trained, trained_weights, weights
from engine.plan.workload import Workload

_FP32 = 4
_BUCKET, _BUCKETS = 1 << 24, 8
_LIVE = 10**9
"""Weights that DeepSpeed fetches and keeps in stage 3 (its stage3_max_live_parameters)."""
STAGES = (1, 2, 3)
"""Of ZeRO. 0: each rank holds all."""


def divided(plan: MemoryPlan, trained: int, *, stage: int, ranks: int) -> MemoryPlan:
    """`plan` is that of a rank that holds all, and `trained` the weights that learn.

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


def bucket_numbers(trained: int, largest: int) -> int:
    """How many gradients are sent at once: 64 MiB in fp32 at most, of a small model less. DeepSpeed wants it even."""
    wanted = max(largest, trained // _BUCKETS)
    return min(_BUCKET, wanted + wanted % 2)


def plan_of_rank(shape: Shape, work: Workload, setting: Setting, *, stage: int, ranks: int) -> MemoryPlan:
    """Where each moment is divided, another may be the one that holds most.

    Raises:
        SpecError: it cannot be divided so far.
    """
    refusal = unsharable(shape, setting) or (undividable(setting, stage) if stage else None)
    if refusal:
        raise refusal
    shape, work = shape.part(setting.tp_size), work.part(setting.cp_size)
    trained = trained_weights(shape, setting)
    beside = _of_deepspeed(shape, setting, stage, trained) if stage else 0
    held = []
    for moment in moments(shape, work, setting):
        # In stage 3 a rank keeps room for the gradients of its part from the start.
        whole = replace(moment, gradients=_FP32 * trained) if stage == max(STAGES) else moment
        part = divided(whole, trained, stage=stage, ranks=ranks)
        held.append(replace(part, workspace=part.workspace + beside))
    return max(held, key=lambda plan: plan.total)


def _of_deepspeed(shape: Shape, setting: Setting, stage: int, trained: int) -> int:
    """The bucket that gradients go through, one of them that it cannot take, and in stage 3 weights that were fetched.

    Those are all where layers are done by hand; by modules they are given back once they are many.
    """
    largest = largest_trained(shape, setting)
    bucket = bucket_numbers(trained, largest)
    beside = _FP32 * (bucket + (largest if largest > bucket and stage > 1 else 0))
    if stage < max(STAGES):
        return beside
    whole = weights(shape, setting)
    return beside + (whole if setting.by_hand(shape) else min(whole, _FP32 * _LIVE))


def least_stage(needed: Callable[[int], int], setting: Setting, *, ranks: int, room_bytes: int) -> int:
    """The lowest that fits a rank's room, since each sends more than the one before; else the one that needs least.

    `needed` are the bytes of a rank at a stage.
    """
    stages = [0, *(stage for stage in STAGES if ranks > 1 and undividable(setting, stage) is None)]
    fitting = next((stage for stage in stages if needed(stage) <= room_bytes), None)
    return min(stages, key=needed) if fitting is None else fitting


def undividable(setting: Setting, stage: int) -> SpecError | None:
    """Why ranks cannot divide so much of a job, if they cannot."""
    asked, hyper = f"resources.parallel.zero_stage is {stage}", setting.hyperparameters
    if hyper.optim == "adamw_8bit":
        return SpecError(
            "zero_with_8_bits",
            f"{asked}; the optimizer's 8-bit state is kept in blocks of whole weights, which ZeRO divides",
            "Set hyperparameters.optim to 'adamw', or zero_stage to 0.",
        )
    if hyper.offload_optimizer == "disk" or (hyper.offload_optimizer == "cpu" and setting.device != "cpu"):
        return SpecError(
            "zero_with_offload",
            f"{asked}; it divides the optimizer's state where the weights are and does not move it off there",
            "Set hyperparameters.offload_optimizer to 'none', or zero_stage to 0.",
        )
    if setting.precision == "fp16":
        return SpecError("zero_with_fp16", f"{asked}; it takes bf16 and fp32", "Set hyperparameters.precision.")
    if stage == max(STAGES) and setting.quantized:
        return SpecError(
            "zero_3_in_4_bits", f"{asked}; weights in 4 bits cannot be divided", "Set zero_stage to 2 or less."
        )
    return None


def unsharable(shape: Shape, setting: Setting) -> SpecError | None:
    """Why ranks cannot work on the same rows of a job, if they cannot."""
    if setting.alone:
        return None
    name, size = ("tp_size", setting.tp_size) if setting.tp_size > 1 else ("cp_size", setting.cp_size)
    asked, widths = f"resources.parallel.{name} is {size}", {"attention": shape.heads, "key/value": shape.kv_heads}
    for which, heads in widths.items():
        if heads % size:
            return SpecError(
                "team_does_not_divide",
                f"{asked}; the model has {heads} {which} heads, and each process takes as many as the others",
                f"Set {name} to a divisor of {heads}.",
            )
    return _not_in_parts(asked, shape, setting) if setting.tp_size > 1 else None


def _not_in_parts(asked: str, shape: Shape, setting: Setting) -> SpecError | None:
    """What tensor parallelism does not know."""
    if shape.family == GPT2:
        mend = "Leave tp_size out; cp_size and zero_stage take such models."
        return SpecError("tp_unsupported", f"{asked}; GPT-2's query, key and value are one layer", mend)
    if shape.inner % setting.tp_size:
        told = f"{asked}; the model's intermediate_size is {shape.inner}"
        return SpecError("team_does_not_divide", told, f"Set tp_size to a divisor of {shape.inner}.")
    if setting.quantized or setting.dora:
        how = "weights in 4 bits" if setting.quantized else "DoRA's norms of whole weights"
        mend = "Set tuning.method to 'lora' without use_dora, or leave tp_size out."
        return SpecError("tp_unsupported", f"{asked}; it does not take {how}", mend)
    if setting.hyperparameters.optim == "adamw_8bit":
        told = f"{asked}; the optimizer's 8-bit state is kept in blocks of whole weights"
        return SpecError("tp_unsupported", told, "Set hyperparameters.optim to 'adamw'.")
    return None


def _part(size: int, ranks: int) -> int:
    return -(-size // ranks)
