"""Memory of ranks that divide a job (ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054)."""

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
"""How many weights DeepSpeed keeps after fetching them in stage 3 (its stage3_max_live_parameters)."""


def divided(plan: MemoryPlan, trained: int, *, stage: int, ranks: int) -> MemoryPlan:
    """Return the plan of a rank from `plan`, that of a rank which holds everything; `trained` weights learn.

    DeepSpeed updates an fp32 copy of each rank's part.
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
    """Return how many gradients are sent at once, at most 64 MiB in fp32. DeepSpeed requires an even number."""
    wanted = max(largest, trained // _BUCKETS)
    return min(_BUCKET, wanted + wanted % 2)


def plan_of_rank(shape: Shape, work: Workload, setting: Setting, *, stage: int, ranks: int) -> MemoryPlan:
    """Return the plan of one rank: its part of the job, and its own frozen copies of the model.

    Raises:
        SpecError: the job cannot be divided in this way.
    """
    refusal = unsharable(shape, setting) or (undividable(setting, stage) if stage else None)
    if refusal:
        raise refusal
    plan = _divided_plan(shape, work, setting, stage=stage, ranks=ranks)
    return replace(plan, weights=plan.weights + setting.frozen * weights(shape, setting))


def _divided_plan(shape: Shape, work: Workload, setting: Setting, *, stage: int, ranks: int) -> MemoryPlan:
    """Divide each moment by itself: another one may hold most afterwards."""
    work = work.part(setting.cp_size)
    shape = shape.part(tp_size=setting.tp_size, ep_size=setting.ep_size)
    if setting.pp_size > 1:
        return max(_of_stages(shape, work, setting), key=lambda plan: plan.total)
    trained = trained_weights(shape, setting)
    beside = _of_deepspeed(shape, setting, stage, trained) if stage else 0
    held = []
    for moment in moments(shape, work, setting):
        # In stage 3 a rank allocates the gradients of its part at the start.
        whole = replace(moment, gradients=_FP32 * trained) if stage == max(STAGES) else moment
        part = divided(whole, trained, stage=stage, ranks=ranks)
        held.append(replace(part, workspace=part.workspace + beside))
    return max(held, key=lambda plan: plan.total)


def stages(shape: Shape, count: int) -> list[range]:
    """Return the layers of each of `count` ranks; the last has fewer if that makes up for the head.

    The rank with the most multiplications is made as small as possible.
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
    """Return the different parts of the model that the ranks of a team have.

    Raises:
        SpecError: ranks cannot work on the same rows in this way.
    """
    if refusal := unsharable(shape, setting):
        raise refusal
    part = shape.part(tp_size=setting.tp_size, ep_size=setting.ep_size)
    return [part] if setting.pp_size == 1 else [part.stage(layers) for layers in stages(part, setting.pp_size)]


def _of_stages(shape: Shape, work: Workload, setting: Setting) -> Iterator[MemoryPlan]:
    """Yield the plan of each stage, with the micro-batches that are in work between it and the end."""
    count = setting.pp_size
    for number, layers in enumerate(stages(shape, count)):
        waiting = min(work.accumulation, count - number) - 1
        yield plan_memory(shape.stage(layers), replace(work, waiting=waiting), setting)


def _of_deepspeed(shape: Shape, setting: Setting, stage: int, trained: int) -> int:
    """Return DeepSpeed's own memory: the bucket of gradients, one that is larger, and in stage 3 the fetched weights.

    Those are all weights if layers are computed by hand; by modules they are released beyond a limit.
    """
    largest = largest_trained(shape, setting)
    bucket = bucket_numbers(trained, largest)
    beside = _FP32 * (bucket + (largest if largest > bucket and stage > 1 else 0))
    if stage < max(STAGES):
        return beside
    whole = weights(shape, setting)
    return beside + (whole if setting.by_hand(shape) else min(whole, _FP32 * _LIVE))


def least_stage(needed: Callable[[int], int], setting: Setting, *, ranks: int, room_bytes: int) -> int:
    """Return the lowest stage that fits, since each communicates more than the one before; else the smallest one.

    `needed` returns the bytes of a rank at a stage.
    """
    stages = [0, *(stage for stage in STAGES if ranks > 1 and undividable(setting, stage) is None)]
    fitting = next((stage for stage in stages if needed(stage) <= room_bytes), None)
    return min(stages, key=needed) if fitting is None else fitting


def undividable(setting: Setting, stage: int) -> SpecError | None:
    """Return why ranks cannot divide a job at this ZeRO stage, if they cannot."""
    name = next((name for name in ("tp_size", "ep_size", "pp_size") if getattr(setting, name) > 1), None)
    if name is not None:
        message = f"resources.parallel.zero_stage is {stage}; with {name} processes divide the model already"
        return SpecError("zero_with_parts", message, f"Leave zero_stage or {name} out.")
    refusal = sharing.undividable(
        stage, setting.hyperparameters, setting.tuning, device=setting.device, precision=setting.precision
    )
    return None if refusal is None else SpecError(*refusal)


def unsharable(shape: Shape, setting: Setting) -> SpecError | None:
    """Return why ranks cannot work on the same rows of a job, if they cannot."""
    sizes = {name: getattr(setting, name) for name in ("tp_size", "cp_size", "ep_size", "pp_size")}
    asked = [(name, size) for name, size in sizes.items() if size > 1]
    if not asked:
        return None
    ((name, size),) = asked
    of_job = (setting.hyperparameters, setting.tuning, setting.device)
    refusal = unfit(name, size, shape) or sharing.unsharable(name, size, *of_job)
    return None if refusal is None else SpecError(*refusal)


def unfit(name: str, size: int, shape: Shape) -> sharing.Refusal | None:
    """Return why `size` ranks cannot share a model in the way `name` (`Parallel.sizes`), if they cannot."""
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
        why = f"the model has {shape.layers} layers, and each process takes at least one"
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
    message = f"resources.parallel.{name} is {size}; {why}"
    return sharing.Refusal("team_does_not_divide", message, f"Set {name} to {other}.")


def _part(size: int, ranks: int) -> int:
    return -(-size // ranks)
