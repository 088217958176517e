"""Machines: network namespaces of this one on a bridge, each with a link that can be cut. For root on Linux, with iproute2."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from tests.servers import remove_left_over, tie_to_parent

ROOT = Path(__file__).parents[1]
_IP = shutil.which("ip")
_NAMESPACES, _LINKS = Path("/var/run/netns"), Path("/sys/class/net")
_OURS = re.compile(r"ty(\d+)(-.+)?")
"""A namespace or a link of a test run, by its process id. A link's name has 15 characters at most."""
_NETWORKS, _NETWORK_BITS = "10.201", 24
_GONE_WITHIN_S = 10.0


def why_not() -> str | None:
    """Why there can be no machines here; None where there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if _IP is None:
        return "network namespaces are made with `ip`, and iproute2 is not installed"
    try:
        with Network() as network:
            code = network.machine("probe").start([sys.executable, "-c", ""]).wait(_GONE_WITHIN_S)
    except OSError as error:
        return f"network namespaces are refused here: {error}"
    return f"a process in a network namespace ends with exit code {code}" if code else None


class Machine:
    """A network namespace with one link, to the bridge, and a folder that is its disk.

    Processes, users and files are those of the whole box: only the network is its own.
    """

    def __init__(self, name: str, address: str, namespace: str, link: str) -> None:
        self.name = name
        self.address = address
        self.folder = Path(tempfile.mkdtemp(prefix=f"trainyard-machine-{os.getpid()}-", dir="/tmp"))
        self.log = self.folder / "machine.log"
        self._namespace = namespace
        self._link = link
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Run a program here, in a session of its own; what it says goes to `log`, and it ends with the tests."""
        assert _IP is not None, why_not()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [_IP, "netns", "exec", self._namespace, *command],  # `ip` becomes the program: it has this process id
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=tie_to_parent,  # noqa: PLW1509 - one call into the C library, which takes no lock
            )
        self._started.append(process)
        return process

    def processes(self) -> list[int]:
        """Everything that runs here, whoever started it."""
        return _processes(self._namespace)

    def cut(self) -> None:
        """No traffic either way. What the machine has of it, its address and routes, stays: the far end goes down."""
        _ip("link", "set", self._link, "down")

    def mend(self) -> None:
        """Undo `cut`."""
        _ip("link", "set", self._link, "up")

    def kill(self) -> None:
        """End everything that runs here at once, as a loss of power would; the disk stays."""
        _end_all(self._namespace)
        for process in self._started:
            process.wait()
        self._started.clear()

    def close(self) -> None:
        """End everything that runs here, and remove the machine with its disk."""
        if not self.folder.exists():
            return  # it was closed before its network
        self.kill()
        _ip("link", "delete", self._link)
        _ip("netns", "delete", self._namespace)
        shutil.rmtree(self.folder)


class Network:
    """A bridge with an address of this box, where servers may listen, and machines that reach it and one another."""

    def __init__(self) -> None:
        self._bridge = f"ty{os.getpid()}"
        self._machines: list[Machine] = []
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        _remove(_has_ended)
        remove_left_over("machine")
        with ExitStack() as undo:
            undo.callback(_remove, lambda owner: owner == os.getpid())
            self._hosts = _free_hosts()
            self.address = next(self._hosts)
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.address}/{_NETWORK_BITS}", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._undo:
            for machine in self._machines:
                machine.close()

    def machine(self, name: str) -> Machine:
        """A new machine, connected, on which nothing runs."""
        namespace, link = f"{self._bridge}-{name}", f"{self._bridge}-{len(self._machines)}"
        address = next(self._hosts)
        _ip("netns", "add", namespace)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", link, "master", self._bridge, "up")
        _ip("-n", namespace, "address", "add", f"{address}/{_NETWORK_BITS}", "dev", "eth0")
        for inside in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", inside, "up")
        machine = Machine(name, address, namespace, link)
        self._machines.append(machine)
        return machine


def _ip(*arguments: str) -> str:
    """What `ip` says; OSError where it refuses."""
    assert _IP is not None, why_not()
    done = subprocess.run([_IP, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _free_hosts() -> Iterator[str]:
    """The addresses of a network that no interface is in; runs that start together begin to look at different ones."""
    taken = _ip("-oneline", "address", "show")
    networks = (f"{_NETWORKS}.{(os.getpid() + n) % 256}" for n in range(256))
    network = next(network for network in networks if f" {network}." not in taken)
    return (f"{network}.{host}" for host in range(1, 255))


def _processes(namespace: str) -> list[int]:
    return [int(pid) for pid in _ip("netns", "pids", namespace).split()]


def _end_all(namespace: str) -> None:
    """Until nothing is left: what is about to be killed may fork meanwhile."""
    deadline = time.monotonic() + _GONE_WITHIN_S
    while left := _processes(namespace):
        if time.monotonic() > deadline:
            raise TimeoutError(f"in {namespace} these processes outlive SIGKILL: {left}")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _has_ended(owner: int) -> bool:
    """Whether the run that had this process id is over: it was killed, and then perhaps we were given its id."""
    return owner == os.getpid() or not Path("/proc", str(owner)).exists()


def _remove(is_to_go: Callable[[int], bool]) -> None:
    """Remove the namespaces and the links of test runs, with what runs there."""
    namespaces, links = (
        [path.name for path in folder.glob("ty*") if (ours := _OURS.fullmatch(path.name)) and is_to_go(int(ours[1]))]
        for folder in (_NAMESPACES, _LINKS)
    )
    for namespace in namespaces:
        _end_all(namespace)
    # A namespace takes its links along when the kernel comes to it, and until then they are in the next run's way.
    for kind, names in (("link", links), ("netns", namespaces)):
        for name in names:
            with suppress(OSError):  # another run may be tidying too
                _ip(kind, "delete", name)
