"""What each of several ranks holds where they divide it among them (ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate

from engine.errors import SpecError
from engine.parts import sharing
from engine.parts.sharing import STAGES
from engine.plan.memory import MemoryPlan, moments, plan_memory
from engine.plan.setting import Setting
from engine.plan.shape import GPT2, Shape
from engine.plan.weights import largest_trained, trained_weights, weights
from engine.plan.workload import Workload

_FP32 = 4
_BUCKET, _BUCKETS = 1 << 24, 8
_LIVE = 10**9
"""Weights that DeepSpeed fetches and keeps in stage 3 (its stage3_max_live_parameters)."""


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
    """What it has of the job, and its own frozen copies of the model.

    Raises:
        SpecError: it cannot be divided so far.
    """
    refusal = unsharable(shape, setting) or (undividable(setting, stage) if stage else None)
    if refusal:
        raise refusal
    plan = _divided_plan(shape, work, setting, stage=stage, ranks=ranks)
    return replace(plan, weights=plan.weights + setting.frozen * weights(shape, setting))


def _divided_plan(shape: Shape, work: Workload, setting: Setting, *, stage: int, ranks: int) -> MemoryPlan:
    """Where each moment is divided, another may be the one that holds most."""
    work = work.part(setting.cp_size)
    shape = shape.part(tp_size=setting.tp_size, ep_size=setting.ep_size)
    if setting.pp_size > 1:
        return max(_of_stages(shape, work, setting), key=lambda plan: plan.total)
    trained = trained_weights(shape, setting)
    beside = _of_deepspeed(shape, setting, stage, trained) if stage else 0
    held = []
    for moment in moments(shape, work, setting):
        # In stage 3 a rank keeps room for the gradients of its part from the start.
        whole = replace(moment, gradients=_FP32 * trained) if stage == max(STAGES) else moment
        part = divided(whole, trained, stage=stage, ranks=ranks)
        held.append(replace(part, workspace=part.workspace + beside))
    return max(held, key=lambda plan: plan.total)


def stages(shape: Shape, count: int) -> list[range]:
    """Which layers each of so many ranks has, one after the other: the last fewer, where that makes up for the head.

    What counts is the rank that multiplies most.
    """
    layer = shape.passed_weights / shape.layers

    def most(last: int) -> float:
        return max(last * layer + shape.embedding, -(-(shape.layers - last) // (count - 1)) * layer)

    last = min(range(shape.layers // count, 0, -1), key=most)
    share, more = divmod(shape.layers - last, count - 1)
    sizes = [share + (number < more) for number in range(count - 1)] + [last]
    ends = list(accumulate(sizes))
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def shapes_of_ranks(shape: Shape, setting: Setting) -> list[Shape]:
    """What each of those that work on the same rows has of the model, as far as they do not have the same.

    Raises:
        SpecError: they cannot work on the same rows.
    """
    if refusal := unsharable(shape, setting):
        raise refusal
    part = shape.part(tp_size=setting.tp_size, ep_size=setting.ep_size)
    return [part] if setting.pp_size == 1 else [part.stage(layers) for layers in stages(part, setting.pp_size)]


def _of_stages(shape: Shape, work: Workload, setting: Setting) -> Iterator[MemoryPlan]:
    """Of each rank, with the micro-batches that are in work between it and the end."""
    count = setting.pp_size
    for number, layers in enumerate(stages(shape, count)):
        waiting = min(work.accumulation, count - number) - 1
        yield plan_memory(shape.stage(layers), replace(work, waiting=waiting), setting)


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
    name = next((name for name in ("tp_size", "ep_size", "pp_size") if getattr(setting, name) > 1), None)
    if name is not None:
        told = f"resources.parallel.zero_stage is {stage}; with {name} processes divide the model already"
        return SpecError("zero_with_parts", told, f"Leave zero_stage or {name} out.")
    refusal = sharing.undividable(
        stage, setting.hyperparameters, setting.tuning, device=setting.device, precision=setting.precision
    )
    return None if refusal is None else SpecError(*refusal)


def unsharable(shape: Shape, setting: Setting) -> SpecError | None:
    """Why ranks cannot work on the same rows of a job, if they cannot."""
    sizes = {name: getattr(setting, name) for name in ("tp_size", "cp_size", "ep_size", "pp_size")}
    asked = [(name, size) for name, size in sizes.items() if size > 1]
    if not asked:
        return None
    ((name, size),) = asked
    of_job = (setting.hyperparameters, setting.tuning, setting.device)
    refusal = unfit(name, size, shape) or sharing.unsharable(name, size, *of_job)
    return None if refusal is None else SpecError(*refusal)


def unfit(name: str, size: int, shape: Shape) -> sharing.Refusal | None:
    """Why so many ranks cannot share a model in the way of that name (`Parallel.sizes`), if they cannot."""
    unknown = {
        "cp_size": [(shape.experts > 1, "experts are kept in balance over whole documents")],
        "ep_size": [(shape.experts == 1, "the model has no experts")],
        "pp_size": [(shape.experts > 1, "experts are kept in balance over all layers")],
        "tp_size": [
            (shape.family == GPT2, "GPT-2's query, key and value are one layer"),
            (shape.experts > 1, "the model has experts, which ep_size divides"),
        ],
    }
    why = next((why for holds, why in unknown[name] if holds), None)
    if why is not None:
        return sharing.no_team(name, size, why)
    if name == "pp_size":
        why = f"the model has {shape.layers} layers, and each process takes one at least"
        return None if shape.layers >= size else _odd(name, size, why, f"{shape.layers} or less")
    heads = {"attention heads": shape.heads, "key/value heads": shape.kv_heads}
    widths = {"experts": shape.experts} if name == "ep_size" else heads
    if name == "tp_size":
        widths["numbers between an MLP's layers"] = shape.inner
    for what, count in widths.items():
        if count % size:
            why = f"the model has {count} {what}, and each process takes as many as the others"
            return _odd(name, size, why, f"a divisor of {count}")
    return None


def _odd(name: str, size: int, why: str, other: str) -> sharing.Refusal:
    told = f"resources.parallel.{name} is {size}; {why}"
    return sharing.Refusal("team_does_not_divide", told, f"Set {name} to {other}.")


def _part(size: int, ranks: int) -> int:
    return -(-size // ranks)
