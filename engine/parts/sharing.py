"""Settings that cannot be combined with the ways in which processes share a job, as far as the spec alone shows.

engine.plan.ranks checks what depends on the shape of the model. A device that is `auto` may be either.
"""

from typing import NamedTuple

from engine.parts.hyperparameters import Hyperparameters
from engine.parts.resources import Resources
from engine.parts.tuning import AdapterTuning, QloraTuning, Tuning

STAGES = (1, 2, 3)
"""ZeRO's stages; with 0, each process holds everything."""
_WHOLE = ("embed_tokens", "lm_head", "norm")
"""The ends of the names of modules that tensor parallelism does not divide."""


class Refusal(NamedTuple):
    """What the spec asks for, why it is impossible, and what to do."""

    code: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message}. {self.mend}"


def refused(resources: Resources, hyper: Hyperparameters, tuning: Tuning) -> Refusal | None:
    """Return why processes cannot share a job as the spec asks, if they cannot."""
    parallel, device = resources.parallel, resources.device
    stage = parallel.zero_stage if resources.world_size > 1 else 0
    if stage != "auto" and stage:
        refusal = undividable(stage, hyper, tuning, device=device, precision=hyper.precision)
        if refusal is not None:
            return refusal
    return None if parallel.way is None else unsharable(*parallel.way, hyper, tuning, device)


def undividable(stage: int, hyper: Hyperparameters, tuning: Tuning, *, device: str, precision: str) -> Refusal | None:
    """Return why processes cannot divide a job at this ZeRO stage, if they cannot; `device` may be `auto`."""
    given = f"resources.parallel.zero_stage is {stage}"
    offloaded = {hyper.offload_optimizer, hyper.offload_param}
    if hyper.optim == "adamw_8bit":
        return Refusal(
            "zero_with_8_bits",
            f"{given}; the optimizer's 8-bit state is kept in blocks of whole weights, which ZeRO divides",
            "Set hyperparameters.optim to 'adamw', or zero_stage to 0.",
        )
    if "disk" in offloaded or ("cpu" in offloaded and device == "cuda"):
        return Refusal(
            "zero_with_offload",
            f"{given}; it divides weights and the optimizer's state in place and does not offload them",
            "Set hyperparameters.offload_optimizer and offload_param to 'none', or zero_stage to 0.",
        )
    if precision == "fp16":
        return Refusal("zero_with_fp16", f"{given}; it takes bf16 and fp32", "Set hyperparameters.precision.")
    if stage == max(STAGES) and isinstance(tuning, QloraTuning):
        return Refusal(
            "zero_3_in_4_bits", f"{given}; weights in 4 bits cannot be divided", "Set zero_stage to 2 or less."
        )
    if stage == max(STAGES) and isinstance(tuning, AdapterTuning) and _adapts_head(tuning):
        return undivided_head()
    return None


def _adapts_head(tuning: AdapterTuning) -> bool:
    targets = tuning.target_modules
    return targets != "all-linear" and any(name.rpartition(".")[2] == "lm_head" for name in targets)


def undivided_head() -> Refusal:
    """Return why processes cannot divide the weights of a head that has an adapter."""
    return Refusal(
        "zero_3_with_adapted_head",
        f"resources.parallel.zero_stage is {max(STAGES)}; the head has an adapter, whose weights each process would have to "
        "fetch as often as its own labels need them, and fetching them takes all processes at once",
        "Set zero_stage to 2 or less, or name lm_head in tuning.modules_to_save in place of tuning.target_modules.",
    )


def unsharable(name: str, size: int, hyper: Hyperparameters, tuning: Tuning, device: str) -> Refusal | None:
    """Return why processes cannot work on the same rows by `name`, one of `Parallel.sizes`, if they cannot."""
    adapter = tuning if isinstance(tuning, AdapterTuning) else None
    in_blocks = (
        hyper.optim == "adamw_8bit",
        "the optimizer's 8-bit state is kept in blocks of whole weights",
        "set hyperparameters.optim to 'adamw'",
    )
    away = (
        moves_layers(hyper, device),
        "hyperparameters.offload_param keeps the layers elsewhere",
        "set offload_param to 'none'",
    )
    beside = adapter.modules_to_save if adapter else ()
    reasons: dict[str, list[tuple[bool, str, str | None]]] = {
        "cp_size": [],
        "ep_size": [
            (adapter is not None, "adapters do not reach experts", "set tuning.method to 'full'"),
            in_blocks,
            away,
        ],
        "pp_size": [(bool(beside), "the adapter has modules_to_save", None)],
        "tp_size": [
            (isinstance(tuning, QloraTuning), "weights in 4 bits cannot be divided", None),
            (bool(adapter and adapter.use_dora), "DoRA takes the norms of whole weights", None),
            (
                not all(module.endswith(_WHOLE) for module in beside),
                "modules_to_save has layers that are divided",
                None,
            ),
            in_blocks,
            away,
        ],
    }
    return next((no_team(name, size, why, instead) for holds, why, instead in reasons[name] if holds), None)


def no_team(name: str, size: int, why: str, instead: str | None = None) -> Refusal:
    """Return the refusal of a kind of parallelism."""
    message = f"resources.parallel.{name} is {size}; {why}"
    mend = f"Leave {name} out, or {instead}." if instead else f"Leave {name} out: zero_stage divides a job too."
    return Refusal("team_unsupported", message, mend)


def moves_layers(hyper: Hyperparameters, device: str) -> bool:
    """Whether the layers are kept elsewhere than where they are used; `cpu` has no effect on a CPU."""
    return hyper.offload_param == "disk" or (hyper.offload_param == "cpu" and device == "cuda")
