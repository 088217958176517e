"""Freezes: a worker's process stands still until its lease is over, goes on, and must write nothing."""

import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from db.errors import Unavailable
from tests.chaos import stall, truth
from tests.chaos.agenda import Agenda
from tests.chaos.service import LEASE_S, Claim, Service, kill
from tests.integration.workers.workplace import descendants

_PAST_THE_LEASE_S = (LEASE_S + 0.5, LEASE_S + 2.0)
_STALLED_AT_MOST_S = 15.0
_LOOK_AGAIN_S = (0.05, 0.05)
_TO_WRITE_S = (1.0, 1.0)


def doing(pid: int) -> str | None:
    """What a process is at; None where it has ended, or the kernel has been told to end it: it runs no line more."""
    try:
        told = (Path(f"/proc/{pid}") / "status").read_text()
        waits_in = (Path(f"/proc/{pid}") / "wchan").read_text()
    except OSError:
        return None
    fields = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    if pending & 1 << signal.SIGKILL - 1 or "VmSize" not in fields:
        return None
    return f"{fields['State']} in {waits_in}, {fields['Threads']} threads"


class Freezes:
    """Stops processes and lets them go on; counts those whose lease was over by then, and what they wrote all the same."""

    def __init__(self, service: Service, rng: random.Random, agenda: Agenda) -> None:
        self.stopped: set[int] = set()
        """The workers' processes that stand still, or have just gone on."""
        self.past_lease = 0
        self.accepted: list[str] = []
        self.outlived: list[str] = []
        """Trainers that were at work when the lease of their worker, which stood still, was over."""
        self._service = service
        self._rng = rng
        self._agenda = agenda

    def freeze(self, slots: Sequence[int]) -> bool:
        """Stop one of these for longer than a lease, with its trainer or without."""
        slot, held = self._draw(slots)
        if slot is None or held is None:
            return False
        frozen = [slot, *(descendants(slot) if self._rng.random() < 0.5 else [])]
        for pid in frozen:
            kill(pid, signal.SIGSTOP)
        self.stopped.add(slot)
        self._agenda.after(_PAST_THE_LEASE_S, lambda: self._thaw(slot, frozen, held))
        return True

    def stall(self, slots: Sequence[int]) -> bool:
        """Stop one of these just before it writes, and let it go on when another has its job."""
        slot, held = self._draw(slots)
        if slot is None or held is None:
            return False
        stall.ask(self._service.folder, slot)
        self.stopped.add(slot)
        self._await_overtaking(slot, held, time.monotonic() + _STALLED_AT_MOST_S)
        return True

    def _draw(self, slots: Sequence[int]) -> tuple[int | None, Claim | None]:
        slot = self._rng.choice(slots) if slots else None
        return slot, None if slot is None else self._service.held_by(slot)

    def _thaw(self, slot: int, frozen: Sequence[int], held: Claim) -> None:
        """Whatever works for a process that has stood still for longer than a lease works under none."""
        left = {pid: doing(pid) for pid in set(descendants(slot)) - set(frozen)}
        whose = f"of {held.job_id}, attempt {held.fence}"
        self.outlived += [f"process {pid} {whose}: {what}" for pid, what in left.items() if what]
        self._go_on(slot, frozen, held)

    def _await_overtaking(self, slot: int, held: Claim, give_up_at: float) -> None:
        try:
            overtaken = self._service.is_overtaken(held)
        except Unavailable:
            overtaken = False
        if overtaken or time.monotonic() > give_up_at:
            stall.forget(self._service.folder, slot)
            self._go_on(slot, [slot], held)
        else:
            self._agenda.after(_LOOK_AGAIN_S, lambda: self._await_overtaking(slot, held, give_up_at))

    def _go_on(self, slot: int, frozen: Sequence[int], held: Claim) -> None:
        try:
            over_at = self._service.lease_over_at(held)
        except Unavailable:  # then nobody can tell what it writes
            over_at = None
        for pid in frozen:
            kill(pid, signal.SIGCONT)
        self._agenda.after(_TO_WRITE_S, lambda: self.stopped.discard(slot))
        if over_at is not None:
            self.past_lease += 1
            self._watch(held, over_at, time.monotonic() + _TO_WRITE_S[0])

    def _watch(self, held: Claim, over_at: int, until: float) -> None:
        """Look for what it writes: the next attempt may soon write over it."""
        with suppress(Unavailable):
            if fault := truth.late_write(self._service.told(held.job_id, over_at), held.fence):
                self.accepted.append(f"{held.job_id}: {fault}")
                return
        if time.monotonic() < until:
            self._agenda.after(_LOOK_AGAIN_S, lambda: self._watch(held, over_at, until))
