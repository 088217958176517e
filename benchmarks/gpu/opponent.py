"""TRL's settings on a GPU, and what turns a benchmark of the CPU into one of a GPU: 1B weights, seconds of the clock."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from race import Contest
from scale import Scale

PER_DEVICE = 8
"""TRL's default rows a batch."""


def batches(rows: int, **more: Any) -> dict[str, Any]:
    """Batches of TRL's default size until a step has its rows."""
    size = min(PER_DEVICE, rows)
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": rows // size, **more}


def stages(rows: int, plain: dict[str, Any], *, small: bool) -> list[dict[str, dict[str, Any]]]:
    """What the search tries, by what is installed; the toy on the CPU has one setting alone."""
    defaults = batches(rows) | plain
    if small:
        return [{"no checkpointing": defaults}]
    whole = defaults | {"per_device_train_batch_size": rows, "gradient_accumulation_steps": 1}
    first = {"no checkpointing": defaults, "no checkpointing, whole batch": whole}
    if find_spec("flash_attn_2_cuda"):
        flat = {"padding_free": True, "attn_implementation": "flash_attention_2"}
        first |= {"padding-free": defaults | flat, "padding-free, whole batch": whole | flat}
    found = [first, {"compiled": {"torch_compile": True}}]
    return [*found, {"Liger": {"use_liger_kernel": True}}] if find_spec("liger_kernel") else found


def on_gpu(contest: Contest, scale: Scale, rows: int, known: dict[str, Any], plain: dict[str, Any]) -> Contest:
    """The same contest with so many rows a step; `known` and `plain` are settings of TRL beside its batches."""
    hyperparameters = contest.spec["hyperparameters"] | {"per_device_train_batch_size": rows}
    return replace(
        contest,
        spec=contest.spec | {"hyperparameters": hyperparameters, "resources": {"device": scale.device}},
        known={"defaults": batches(rows) | known},
        stages=stages(rows, known | plain, small=scale.small),
        clock="wall",
        device=scale.device,
        save_base=scale.save_base,
        keeps=not scale.small,
    )
