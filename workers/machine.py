"""The machine: what a worker says of the device that its jobs run on."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from workers.settings import WorkerSettings

_MIB = 2**20
_ASK = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_ASK_AT_MOST_S = 10
_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Device(NamedTuple):
    """For people, and its memory: of all GPUs together, else what the machine lets its processes have."""

    name: str
    memory_bytes: int
    kind: str
    """cuda or cpu."""
    gpus: int = 0


class _Gpu(NamedTuple):
    """As the driver tells of it, which tells of those too that are hidden from programs."""

    number: str
    uuid: str
    name: str
    mib: str

    def has_name(self, name: str) -> bool:
        """Whether CUDA_VISIBLE_DEVICES means it by that: by its number, or as much of its UUID as is unique."""
        return name == self.number or (name.startswith("GPU-") and self.uuid.startswith(name))


def device() -> Device:
    """The GPUs where the driver knows of any that jobs may use, else the CPU."""
    gpus = _gpus()
    if not gpus:
        return Device(f"cpu ({len(os.sched_getaffinity(0))} cores)", _memory_bytes(), "cpu")
    name = gpus[0].name if len(gpus) == 1 else f"{len(gpus)} x {gpus[0].name}"
    return Device(name, sum(gpu.memory_bytes for gpu in gpus), "cuda", len(gpus))


def address(settings: WorkerSettings) -> str:
    """Where other machines reach this one: on the way by which it reaches the broker."""
    if settings.worker_address is not None:
        return str(settings.worker_address)
    host = urlsplit(settings.broker_url).hostname or "localhost"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, 1))  # sends nothing: it has the kernel choose
        return way.getsockname()[0]


def meeting(settings: WorkerSettings) -> tuple[str, int]:
    """An address and a port of it that nobody listens on now."""
    here = address(settings)
    with socket.create_server((here, 0)) as free:
        return here, free.getsockname()[1]


def interface(of: str) -> str:
    """The network interface with that address.

    Raises:
        OSError: there is none.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == of for each in addresses):
            return name
    raise OSError(f"no network interface of this machine has the address {of}; see TRAINYARD_WORKER_ADDRESS")


def _gpus() -> list[Device]:
    if shutil.which(_ASK[0]) is None:
        return []
    try:
        told = subprocess.run(_ASK, capture_output=True, text=True, check=False, timeout=_ASK_AT_MOST_S)
    except subprocess.TimeoutExpired:  # a driver that does not answer has no GPU for a job either
        return []
    if told.returncode:  # the tool is there and no GPU is
        return []
    there = [_read(line) for line in told.stdout.splitlines() if line.strip()]
    share = _memory_bytes() // max(1, len(there))
    return [Device(gpu.name, _bytes_of(gpu.mib, share), "cuda") for gpu in _visible(there)]


def _read(line: str) -> _Gpu:
    """A row of nvidia-smi's; the name of a GPU may hold commas."""
    number, uuid, rest = line.split(",", 2)
    name, _, mib = rest.rpartition(",")
    return _Gpu(number.strip(), uuid.strip(), name.strip(), mib.strip())


def _visible(there: list[_Gpu]) -> list[_Gpu]:
    """Those that CUDA shows to programs, which are named up to the first name that it does not know.

    The driver's rows tell nothing of a part of a GPU (MIG-...): a worker that has one is told as one without.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return there
    visible: list[_Gpu] = []
    for name in named.split(","):
        meant = [gpu for gpu in there if gpu.has_name(name.strip())]
        if len(meant) != 1:
            break
        visible += meant
    return visible


def _bytes_of(mib: str, share: int) -> int:
    """A GPU that has no memory of its own tells of none ([N/A]): it shares the machine's."""
    return int(mib) * _MIB if mib.isdecimal() else share


def _memory_bytes() -> int:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _GROUP_LIMIT.read_text().strip() if _GROUP_LIMIT.exists() else "max"
    return min(there, int(limit)) if limit.isdecimal() else there
