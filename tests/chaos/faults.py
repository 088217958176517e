"""The faults: what can befall the service, each drawn by its weight from the campaign's seed."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from threading import Timer
from typing import NamedTuple

from db.errors import Unavailable
from tests.chaos import load
from tests.chaos.agenda import Agenda
from tests.chaos.deaths import Deaths
from tests.chaos.freezes import Freezes
from tests.chaos.service import Process, Service, identity, kill, state_of
from tests.integration.workers.workplace import at_work, children, descendants
from tests.servers import Server

_GONE_WITHIN_S = 5.0
_DRAWS_AT_MOST = 100
_FULL_S = (0.2, 1.5)
_STILL_S = (0.5, 3.0)
_LONG_S = (60.0, 120.0)
_LONG_FROM_KILLS = 500


class Faults:
    """Does faults, undoes in time those that last, and looks whether what had to go is gone."""

    def __init__(self, service: Service, rng: random.Random, kills: int, only: str | None = None) -> None:
        """`kills`: how many are to come. `only`: faults whose names begin with it, and each of them counts as a kill."""
        agenda = Agenda(rng)
        self.done: Counter[str] = Counter()
        self.kills = 0
        self.orphans: list[str] = []
        self.deaths = Deaths()
        self.freezes = Freezes(service, rng, agenda)
        self.lost_blobs = 0
        self._service = service
        self._rng = rng
        self._agenda = agenda
        self._only = only
        self._short = kills < _LONG_FROM_KILLS
        self._broker_is_back_at = 0.0
        self._possible = [name for name in _FAULTS if name not in self.skipped() and name.startswith(only or "")]
        self._first = rng.sample(self._possible, len(self._possible))

    def strike(self) -> None:
        """One fault: first each of them once, then by their weights. What has nothing to hit just now waits."""
        for name in self._first:
            if self._do(name):
                self._first.remove(name)
                return
        for _ in range(_DRAWS_AT_MOST):
            if self._do(*self._rng.choices(self._possible, [_FAULTS[name].weight for name in self._possible])):
                return

    def _do(self, name: str) -> bool:
        fault = _FAULTS[name]
        try:
            done = fault.act(self)
        except Unavailable:
            return False
        if done:
            self.done[name] += 1
            self.kills += 1 if self._only else fault.kills
        return done

    def tend(self) -> None:
        """Do what is due."""
        self._agenda.tend()

    def finish(self) -> None:
        """Undo everything that lasts, and wait for the last look."""
        while self._agenda:
            self._service.tend()
            self.tend()
            time.sleep(0.02)

    def skipped(self) -> dict[str, str]:
        """What cannot be done here, and why."""
        reasons = {}
        if self._service.no_disk:
            reasons["disk full"] = self._service.no_disk
        if self._service.postgres is None:
            for name in ("kill database", "cut database"):
                reasons[name] = "SQLite lives in the API, the workers and the reaper, which are killed and stopped"
        if self._service.bucket is None:
            reasons["cut blob store"] = "blobs lie on the disk, which is filled"
        if self._short:
            reasons["cut broker for a minute or two"] = f"a campaign of less than {_LONG_FROM_KILLS} kills is too short"
        return reasons

    def _kill_one(self, pids: list[int]) -> bool:
        """Kill one of the processes. What is below it has to go with it."""
        if not pids:
            return False
        pid = self._rng.choice(pids)
        below = [process for process in map(identity, descendants(pid)) if process]
        kill(pid)
        self._agenda.after((_GONE_WITHIN_S, _GONE_WITHIN_S), lambda: self._look_for(below))
        return True

    def _look_for(self, processes: list[Process]) -> None:
        for process in processes:
            if identity(process.pid) == process:
                state = state_of(process.pid)
                self.orphans.append(f"process {process.pid} ({state}) outlived its parent by {_GONE_WITHIN_S:g} s")

    def kill_part(self, name: str) -> bool:
        return self._kill_one([self._service.pids[name]])

    def _slots(self, *, busy: bool = False) -> list[int]:
        """The processes that carry out jobs, but for those that are stopped: they are to go on."""
        slots = [slot for slot in self._service.slots() if slot not in self.freezes.stopped]
        return [slot for slot in slots if children(slot)] if busy else slots

    def _workers(self) -> list[int]:
        return [worker for worker in self._service.workers() if not self.freezes.stopped.intersection(children(worker))]

    def kill_worker(self) -> bool:
        return self._kill_one(self._workers())

    def kill_slot(self) -> bool:
        return self._kill_one(self._slots())

    def kill_trainer(self) -> bool:
        """What it works for may stand still meanwhile."""
        slots = [slot for slot in self._service.slots() if children(slot)]
        if not slots:
            return False
        slot = self._rng.choice(slots)
        if (held := self._service.held_by(slot)) and slot not in self.freezes.stopped:
            self.deaths.note(held)
        return self._kill_one(children(slot))

    def kill_rank(self) -> bool:
        """One of the processes that share a run."""
        return self._kill_one([rank for trainer in self._service.trainers() for rank in children(trainer)])

    def bereave(self) -> bool:
        """Kill the process that a trainer works for, while the trainer is stopped and can do nothing itself.

        One that was stopped in its first moments, before it asked the kernel to end with its parent, would stay so.
        """
        slots = [slot for slot in self._slots(busy=True) if all(map(at_work, _leaves(slot)))]
        if not slots:
            return False
        slot = self._rng.choice(slots)
        for trainer in descendants(slot):
            kill(trainer, signal.SIGSTOP)
        return self._kill_one([slot])

    def stop_worker(self) -> bool:
        """SIGTERM, as when a spot machine goes away."""
        workers = self._workers()
        if workers:
            kill(self._rng.choice(workers), signal.SIGTERM)
        return bool(workers)

    def freeze(self) -> bool:
        """Stop a worker's process past its lease, with its trainer or without, then let it go on."""
        return self.freezes.freeze(self._slots(busy=True))

    def stall(self) -> bool:
        """Stop a worker's process just before it writes, and let it go on when another has its job."""
        return self.freezes.stall(self._slots(busy=True))

    def kill_server(self, server: Server | None) -> bool:
        """Broker or database: all of its processes at once; it is back when it has recovered."""
        assert server is not None
        for pid in [server.pid, *descendants(server.pid)]:
            kill(pid)
        server.kill()
        server.start()
        return True

    def kill_broker(self) -> bool:
        return self._broker_is_here() and self.kill_server(self._service.broker)

    def kill_database(self) -> bool:
        return self.kill_server(self._service.postgres)

    def _halt(self, pids: list[int], span_s: tuple[float, float] = _STILL_S) -> float:
        """They keep their connections and say nothing for a while; how long, in s.

        A clock of its own lets them go on: what tends the agenda may wait for them itself.
        """
        for pid in pids:
            kill(pid, signal.SIGSTOP)
        still_s = self._rng.uniform(*span_s)
        Timer(still_s, lambda: [kill(pid, signal.SIGCONT) for pid in pids]).start()
        self._agenda.after((still_s, still_s), lambda: None)  # the campaign does not end before
        return still_s

    def halt_part(self, name: str) -> bool:
        return self._halt([self._service.pids[name]]) > 0

    def halt_worker(self) -> bool:
        """The main process alone: what carries out jobs goes on."""
        workers = self._workers()
        return bool(workers) and self._halt([self._rng.choice(workers)]) > 0

    def _cut(self, server: Server | None, span_s: tuple[float, float] = _STILL_S) -> float:
        assert server is not None
        return self._halt([server.pid, *descendants(server.pid)], span_s)

    def _broker_is_here(self) -> bool:
        return time.monotonic() >= self._broker_is_back_at

    def cut_broker(self) -> bool:
        return self._broker_is_here() and self._cut(self._service.broker) > 0

    def cut_broker_for_long(self) -> bool:
        if not self._broker_is_here():
            return False
        self._broker_is_back_at = time.monotonic() + self._cut(self._service.broker, _LONG_S)
        return True

    def cut_bucket(self) -> bool:
        return self._cut(self._service.bucket) > 0

    def cut_database(self) -> bool:
        return self._cut(self._service.postgres) > 0

    def fill_disk(self) -> bool:
        filler = self._service.home / "filler"
        if filler.exists():
            return False
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        self._agenda.after(_FULL_S, filler.unlink)
        return True

    def cut_upload(self) -> bool:
        load.cut_upload(self._service)
        return True

    def cut_power(self) -> bool:
        if self.freezes.stopped:
            return False
        self.lost_blobs += self._service.cut_power()
        return True


def _leaves(pid: int) -> list[int]:
    """The processes below a process that have none below them."""
    return [below for below in descendants(pid) if not children(below)]


class Fault(NamedTuple):
    """How often it is drawn, what it does (False: there was nothing to hit), and how many kills it counts for."""

    weight: float
    act: Callable[[Faults], bool]
    kills: int = 1


_FAULTS = {
    "kill api": Fault(4, lambda faults: faults.kill_part("api")),
    "kill reaper": Fault(4, lambda faults: faults.kill_part("reaper")),
    "kill worker": Fault(4, Faults.kill_worker),
    "kill worker's child": Fault(4, Faults.kill_slot),
    "kill trainer": Fault(6, Faults.kill_trainer),
    "kill one of two trainers": Fault(3, Faults.kill_rank),
    "kill child of a stopped trainer": Fault(1, Faults.bereave),
    "kill broker": Fault(3, Faults.kill_broker),
    "kill database": Fault(2, Faults.kill_database),
    "stop worker (SIGTERM)": Fault(1, Faults.stop_worker, 0),
    "freeze past the lease": Fault(2, Faults.freeze, 0),
    "freeze at a write, past the lease": Fault(4, Faults.stall, 0),
    "halt api": Fault(1, lambda faults: faults.halt_part("api"), 0),
    "halt reaper": Fault(1, lambda faults: faults.halt_part("reaper"), 0),
    "halt worker": Fault(1, Faults.halt_worker, 0),
    "cut broker": Fault(1, Faults.cut_broker, 0),
    "cut broker for a minute or two": Fault(0.1, Faults.cut_broker_for_long, 0),
    "cut blob store": Fault(1, Faults.cut_bucket, 0),
    "cut database": Fault(1, Faults.cut_database, 0),
    "cut upload": Fault(1, Faults.cut_upload, 0),
    "disk full": Fault(0.5, Faults.fill_disk, 0),
    "power cut": Fault(0.5, Faults.cut_power, 0),
}
