"""TRL's settings on a GPU, and the conversion of a CPU benchmark to a GPU: 1B weights, wall-clock seconds."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from benchmarks.harness import answers, gpu_size, material, race
from benchmarks.harness.gpu_size import Scale
from benchmarks.harness.race import Contest

PER_DEVICE = 8
"""TRL's default rows per batch."""
ANSWERS_STEPS = 10


def batches(rows: int, **more: Any) -> dict[str, Any]:
    """Return batches of TRL's default size that add up to a step's rows."""
    size = min(PER_DEVICE, rows)
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": rows // size, **more}


def stages(rows: int, plain: dict[str, Any]) -> list[dict[str, dict[str, Any]]]:
    """Return the settings that the search tries, given what is installed."""
    defaults = batches(rows) | plain
    whole = defaults | {"per_device_train_batch_size": rows, "gradient_accumulation_steps": 1}
    first = {"no checkpointing": defaults, "no checkpointing, whole batch": whole}
    if find_spec("flash_attn_2_cuda"):
        flat = {"padding_free": True, "max_length": None, "attn_implementation": "flash_attention_2"}
        first |= {"padding-free": defaults | flat, "padding-free, whole batch": whole | flat}
    found = [first, {"compiled": {"torch_compile": True}}]
    return [*found, {"Liger": {"use_liger_kernel": True}}] if find_spec("liger_kernel") else found


def on_gpu(contest: Contest, how: Scale, rows: int, known: dict[str, Any], plain: dict[str, Any]) -> Contest:
    """Return the contest with that many rows per step; `known` and `plain` are settings of TRL beside its batches.

    The toy takes the defaults alone, and so does whoever has no goal for the best setting: nothing is searched.
    """
    hyperparameters = contest.spec["hyperparameters"] | {"per_device_train_batch_size": rows}
    goals = {"defaults": contest.goals["defaults"]} if how.small else contest.goals
    return replace(
        contest,
        spec=contest.spec | {"hyperparameters": hyperparameters, "resources": {"device": how.device}},
        known={"defaults": batches(rows) | known},
        stages=stages(rows, known | plain) if "best" in goals else [],
        goals=goals,
        clock="wall",
        device=how.device,
        save_base=how.save_base,
        keeps=not how.small,
    )


def run_answers(name: str, method: str, goals: dict[str, float]) -> None:
    """Run the whole benchmark of an adapter on questions and answers; its last line is the result."""
    how = gpu_size.read()
    rows = 4 if how.small else 64
    tuning = {"method": method, **material.LORA}
    contest = answers.contest(name, tuning, goals, material.conversations(rows * (ANSWERS_STEPS + 1)))
    race.run(on_gpu(contest, how, rows, {"max_length": answers.POSITIONS}, {"gradient_checkpointing": False}), how.rest)
