"""Kills for lack of memory: whether the kernel has killed an engine, which cannot report that itself."""

import re
import time
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OF_THE_MACHINE = Path("/proc/vmstat")
_LOOK_EVERY_S = 1.0
_LATELY_S = 75.0
"""A launcher ends within this time after one of its ranks; a kill older than twice this was another process's."""


class MemoryKills:
    """The out-of-memory kills in the control group of a process, as the kernel counts them; else of the machine."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._looked_at = time.monotonic()
        self._seen = False
        self._count_in(_counter_of(pid))

    def look(self) -> None:
        """Update the counts; to be called while the process lives, since its group may change and old kills expire."""
        now = time.monotonic()
        if now < self._looked_at + _LOOK_EVERY_S:
            return
        self._looked_at = now
        counter = _counter_of(self._pid)
        if counter != self._counter:
            self._seen = self.any_lately()  # v1 shows a process that is being killed in the root group
            self._count_in(counter)
        elif now >= self._since + _LATELY_S:
            self._earlier, self._later, self._since = self._later, _count(counter), now

    def any_lately(self) -> bool:
        """Return whether there was a kill in the last minute or two."""
        return self._seen or _count(self._counter) > self._earlier

    def _count_in(self, counter: Path) -> None:
        self._counter, self._since = counter, time.monotonic()
        self._earlier = self._later = _count(counter)


def _counter_of(pid: int) -> Path:
    """Return the file with the line `oom_kill N` of the process's group: cgroup v1's memory controller, or v2's."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if controllers.split(",").count("memory"):
                counter = _GROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            elif number == "0":
                counter = _GROUPS / path.lstrip("/") / "memory.events"
            else:
                continue
            if counter.exists():
                return counter
    return _OF_THE_MACHINE


def _count(counter: Path) -> int:
    with suppress(OSError):
        found = re.search(r"^oom_kill (\d+)$", counter.read_text(), re.MULTILINE)
        if found:
            return int(found.group(1))
    return 0
