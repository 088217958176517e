"""What does not go together with the ways in which processes share a job, as far as a spec tells.

What depends on the model is said by whoever knows its shape (engine.plan.ranks). A device that is still `auto` may turn
out to be either.
"""

from typing import NamedTuple

from engine.parts.hyperparameters import Hyperparameters
from engine.parts.resources import Resources
from engine.parts.tuning import AdapterTuning, QloraTuning, Tuning

STAGES = (1, 2, 3)
"""Of ZeRO. 0: each process holds all."""
_WHOLE = ("embed_tokens", "lm_head", "norm")
"""How the names of modules end that tensor parallelism leaves whole."""


class Refusal(NamedTuple):
    """What is asked for and why it cannot be, and what to do."""

    code: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message}. {self.mend}"


def refused(resources: Resources, hyper: Hyperparameters, tuning: Tuning) -> Refusal | None:
    """Why so many processes cannot share a job as they are asked to, if they cannot."""
    parallel, device = resources.parallel, resources.device
    stage = parallel.zero_stage if resources.world_size > 1 else 0
    if stage != "auto" and stage:
        refusal = undividable(stage, hyper, tuning, device=device, precision=hyper.precision)
        if refusal is not None:
            return refusal
    return None if parallel.way is None else unsharable(*parallel.way, hyper, tuning, device)


def undividable(stage: int, hyper: Hyperparameters, tuning: Tuning, *, device: str, precision: str) -> Refusal | None:
    """Why processes cannot divide so much of a job (ZeRO), if they cannot, with what is known of device and precision."""
    asked = f"resources.parallel.zero_stage is {stage}"
    offloaded = {hyper.offload_optimizer, hyper.offload_param}
    if hyper.optim == "adamw_8bit":
        return Refusal(
            "zero_with_8_bits",
            f"{asked}; the optimizer's 8-bit state is kept in blocks of whole weights, which ZeRO divides",
            "Set hyperparameters.optim to 'adamw', or zero_stage to 0.",
        )
    if "disk" in offloaded or ("cpu" in offloaded and device == "cuda"):
        return Refusal(
            "zero_with_offload",
            f"{asked}; it divides weights and the optimizer's state where they are and does not move them off there",
            "Set hyperparameters.offload_optimizer and offload_param to 'none', or zero_stage to 0.",
        )
    if precision == "fp16":
        return Refusal("zero_with_fp16", f"{asked}; it takes bf16 and fp32", "Set hyperparameters.precision.")
    if stage == max(STAGES) and isinstance(tuning, QloraTuning):
        return Refusal(
            "zero_3_in_4_bits", f"{asked}; weights in 4 bits cannot be divided", "Set zero_stage to 2 or less."
        )
    return None


def unsharable(name: str, size: int, hyper: Hyperparameters, tuning: Tuning, device: str) -> Refusal | None:
    """Why so many processes cannot work on the same rows in the way of that name (`Parallel.sizes`), whatever the model."""
    adapter = tuning if isinstance(tuning, AdapterTuning) else None
    in_blocks = (
        hyper.optim == "adamw_8bit",
        "the optimizer's 8-bit state is kept in blocks of whole weights",
        "set hyperparameters.optim to 'adamw'",
    )
    away = (
        moves_layers(hyper, device),
        "hyperparameters.offload_param has the layers elsewhere",
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
    """That processes do not work on the same rows so."""
    told = f"resources.parallel.{name} is {size}; {why}"
    mend = f"Leave {name} out, or {instead}." if instead else f"Leave {name} out: zero_stage divides a job too."
    return Refusal("team_unsupported", told, mend)


def moves_layers(hyper: Hyperparameters, device: str) -> bool:
    """Whether the layers lie elsewhere than where they are used: the CPU's own memory is no other place for a CPU."""
    return hyper.offload_param == "disk" or (hyper.offload_param == "cpu" and device == "cuda")
