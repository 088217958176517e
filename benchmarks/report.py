"""What a benchmark says last: one line of JSON, with the machine it was measured on."""

import json
import os
import platform
from pathlib import Path
from typing import Any


def hardware() -> str:
    """The machine in words: processor, cores this process may use, memory, system, Python."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def emit(result: dict[str, Any]) -> None:
    """Print {name, ours, peer, ratio, goal, holds} and the hardware; nothing may be printed after it."""
    print(json.dumps(result | {"ratio": round(result["ratio"], 3), "hardware": hardware()}), flush=True)
