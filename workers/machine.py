"""The machine: what a worker says of the device that its jobs run on."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

_MIB = 2**20
_ASK = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_ASK_AT_MOST_S = 10
_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Device(NamedTuple):
    """For people, and its memory: of all GPUs together, else what the machine lets its processes have."""

    name: str
    memory_bytes: int


def device() -> Device:
    """The GPUs where the driver knows of any, else the CPU."""
    gpus = _gpus()
    if not gpus:
        return Device(f"cpu ({len(os.sched_getaffinity(0))} cores)", _memory_bytes())
    name = gpus[0].name if len(gpus) == 1 else f"{len(gpus)} x {gpus[0].name}"
    return Device(name, sum(gpu.memory_bytes for gpu in gpus))


def _gpus() -> list[Device]:
    if shutil.which(_ASK[0]) is None:
        return []
    told = subprocess.run(_ASK, capture_output=True, text=True, check=False, timeout=_ASK_AT_MOST_S)
    if told.returncode:  # the tool is there and no GPU is
        return []
    rows = [line.rpartition(",") for line in told.stdout.splitlines() if line.strip()]
    return [Device(name.strip(), int(mib) * _MIB) for name, _, mib in rows]


def _memory_bytes() -> int:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _GROUP_LIMIT.read_text().strip() if _GROUP_LIMIT.exists() else "max"
    return min(there, int(limit)) if limit.isdecimal() else there
