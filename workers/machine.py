"""The machine: the devices that a worker's jobs run on, and the addresses at which it is reached."""

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
    """The name of a device, and its memory: that of all GPUs together, else what the machine grants its processes."""

    name: str
    memory_bytes: int
    kind: str
    """cuda or cpu."""
    gpus: int = 0


class _Gpu(NamedTuple):
    """A GPU as the driver lists it; the driver also lists those that are hidden from programs."""

    number: str
    uuid: str
    name: str
    mib: str

    def has_name(self, name: str) -> bool:
        """Return whether `name` in CUDA_VISIBLE_DEVICES refers to it: its number, or a unique prefix of its UUID."""
        return name == self.number or (name.startswith("GPU-") and self.uuid.startswith(name))


def device() -> Device:
    """Return the GPUs, if the driver lists any that jobs may use, else the CPU."""
    gpus = _gpus()
    if not gpus:
        return Device(f"cpu ({len(os.sched_getaffinity(0))} cores)", _memory_bytes(), "cpu")
    name = gpus[0].name if len(gpus) == 1 else f"{len(gpus)} x {gpus[0].name}"
    return Device(name, sum(gpu.memory_bytes for gpu in gpus), "cuda", len(gpus))


def address(settings: WorkerSettings) -> str:
    """Return the address at which other machines reach this one: by default that of its route to the broker."""
    if settings.worker_address is not None:
        return str(settings.worker_address)
    host = urlsplit(settings.broker_url).hostname or "localhost"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect((host, 1))  # sends nothing: the kernel only chooses the route
        return route.getsockname()[0]


def meeting(settings: WorkerSettings) -> tuple[str, int]:
    """Return an address of this machine and a free port of it."""
    here = address(settings)
    with socket.create_server((here, 0)) as free:
        return here, free.getsockname()[1]


def interface(of: str) -> str:
    """Return the name of the network interface with that address.

    Raises:
        OSError: no interface has it.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == of for each in addresses):
            return name
    raise OSError(f"no network interface of this machine has the address {of}; see TRAINYARD_WORKER_ADDRESS")


def _gpus() -> list[Device]:
    if shutil.which(_ASK[0]) is None:
        return []
    try:
        listing = subprocess.run(_ASK, capture_output=True, text=True, check=False, timeout=_ASK_AT_MOST_S)
    except subprocess.TimeoutExpired:  # a driver that does not answer has no GPU for a job either
        return []
    if listing.returncode:  # the tool is installed, but there is no GPU
        return []
    there = [gpu for line in listing.stdout.splitlines() if (gpu := _read(line)) is not None]
    share = _memory_bytes() // max(1, len(there))
    return [Device(gpu.name, _bytes_of(gpu.mib, share), "cuda") for gpu in _visible(there)]


def _read(line: str) -> _Gpu | None:
    """Parse a row of nvidia-smi, or return None for another line; the name of a GPU may contain commas."""
    number, _, rest = line.partition(",")
    uuid, _, rest = rest.partition(",")
    name, comma, mib = rest.rpartition(",")
    return _Gpu(number.strip(), uuid.strip(), name.strip(), mib.strip()) if comma else None


def _visible(there: list[_Gpu]) -> list[_Gpu]:
    """Return the GPUs that CUDA shows to programs: those of CUDA_VISIBLE_DEVICES up to the first unknown name.

    The driver does not list parts of a GPU (MIG-...), so a worker that has one counts as one without a GPU.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return there
    visible: list[_Gpu] = []
    for name in named.split(","):
        matching = [gpu for gpu in there if gpu.has_name(name.strip())]
        if len(matching) != 1:
            break
        visible += matching
    return visible


def _bytes_of(mib: str, share: int) -> int:
    """Return a GPU's memory; one without memory of its own ([N/A]) has a share of the machine's."""
    return int(mib) * _MIB if mib.isdecimal() else share


def _memory_bytes() -> int:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _GROUP_LIMIT.read_text().strip() if _GROUP_LIMIT.exists() else "max"
    return min(there, int(limit)) if limit.isdecimal() else there
