"""The result of a benchmark: one line of JSON, with the machine it was measured on."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
_GPUS = Path("/proc/driver/nvidia/gpus")


def hardware() -> str:
    """Describe the machine: processor, GPUs, usable cores, memory, system, Python."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{', '.join([_processor(), *_gpus()])}, {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gpus() -> list[str]:
    told = [path.read_text() for path in sorted(_GPUS.glob("*/information"))]
    models = [
        line.partition(":")[2].strip() for text in told for line in text.splitlines() if line.startswith("Model:")
    ]
    return [f"GPU {model}" for model in models]


def versions(*libraries: str) -> dict[str, str]:
    return {name: version(name) for name in libraries}


def emit(result: dict[str, Any], *, keeps: bool = False) -> None:
    """Print {name, ours, peer, ratio, goal, holds} and the hardware; nothing may be printed after it.

    With `keeps` the line is added to `results/NAME.jsonl` too.
    """
    line = json.dumps(result | {"ratio": round(result["ratio"], 3), "hardware": hardware()})
    if keeps:
        with (RESULTS / f"{result['name']}.jsonl").open("a", encoding="utf-8") as kept:
            kept.write(line + "\n")
    print(line, flush=True)
