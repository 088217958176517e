"""The claim: a job held under its fence, for as long as the lease can be renewed."""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Self, TypeVar

from db import leases
from db.errors import Unavailable
from db.session import Database, Session
from engine import deadline
from workers.failures import Failure
from workers.settings import WorkerSettings

_LOG = logging.getLogger(__name__)
_RETRY_S = 0.5
_GUARD_TICK_S = 0.25

T = TypeVar("T")


class LeaseLostError(Exception):
    """The job is no longer ours: nothing may be written about it."""


class Lease:
    """A claimed job. Inside `with`, one thread renews the lease and another guards its end.

    The guard is apart because a renewal can hang for longer than the lease lasts (a database that
    is away does not always say so). It stops the engine `margin_s` before the lease ends, so the
    next holder never runs beside it.
    """

    def __init__(self, database: Database, claim: leases.Claim, settings: WorkerSettings, claimed_at: float) -> None:
        self.job = claim.job
        self.fence = claim.fence
        self.gang = claim.gang
        self.lease_s = settings.lease_s
        self.cancel_requested = threading.Event()
        self.let_go_requested = threading.Event()
        self.lost = threading.Event()
        self._database = database
        self._heartbeat_s = settings.heartbeat_s
        self._margin_s = settings.lease_s * 0.2
        self._until = claimed_at + settings.lease_s
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._stop_engine: Callable[[], None] | None = None
        self._run_dir: Path | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for name, act in (("lease-renewal", self._renew_on), ("lease-guard", self._guard)):
            # With what the work is about: they log it too.
            self._threads.append(threading.Thread(target=copy_context().run, args=(act,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(self.lease_s)

    def stop_on_loss(self, stop_engine: Callable[[], None]) -> None:
        """What to do, at once and from another thread, when the job is no longer ours."""
        self._stop_engine = stop_engine
        if self.lost.is_set():
            stop_engine()

    def bind(self, run_dir: Path) -> None:
        """Have the run in this folder end by itself just before the lease does: this process may stand still then."""
        deadline.move(run_dir, self._deadline_s())
        self._run_dir = run_dir

    def write(self, act: Callable[[Session], T], *, last: bool = False) -> T:
        """Run `act` in a transaction; again and again, while the database is away and the lease holds.

        `last` tells that the job is let go in it, so nothing is renewed any more.

        Raises:
            LeaseLostError: the lease ended first.
        """
        told = ""
        while not self.lost.is_set():
            try:
                with self._writing:
                    with self._database.write() as s:
                        done = act(s)
                        if self._is_over():  # it stood still in here: what it wrote is taken back
                            raise LeaseLostError(self.job.id)
                    if last:
                        self._ended.set()
                    return done
            except Unavailable as error:
                if told != str(error):  # once: the renewal may well succeed meanwhile, and then nobody else would
                    told = str(error)
                    _LOG.warning("what job %s has to tell waits: %s", self.job.id, told)
                self.lost.wait(_RETRY_S)
        raise LeaseLostError(self.job.id)

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until

    def is_ending(self) -> bool:
        """Whether it could not be renewed for so long that the engine is to be gone, or ends itself (engine.deadline)."""
        return time.monotonic() >= self._until - self._margin_s

    def begin_running(self) -> None:
        """The job's input lies ready.

        Raises:
            LeaseLostError: the job is another attempt's by now.
        """
        if not self.write(lambda s: leases.begin_running(s, self.job.id, self.fence)):
            raise LeaseLostError(self.job.id)

    def renewed(self, asked_at: float, renewal: leases.Renewal | None) -> None:
        """Take note of an answer to a renewal that was asked for at `asked_at` on the monotonic clock."""
        if renewal is None:
            self._lose("the database refused the fence: the job is no longer this attempt's")
            return
        self._until = max(self._until, asked_at + self.lease_s)
        self._move_deadline()
        if renewal.cancel_requested:
            self.cancel_requested.set()
        if renewal.let_go_requested:
            self.let_go_requested.set()

    def _move_deadline(self) -> None:
        if self._run_dir is None:
            return
        try:
            deadline.move(self._run_dir, self._deadline_s())
        except OSError as error:
            _LOG.warning("job %s: the engine's deadline cannot be moved on: %s", self.job.id, error)

    def _deadline_s(self) -> float:
        # In this order: standing still in between only brings the deadline nearer.
        ahead_s = deadline.now_s() - time.monotonic()
        return self._until - self._margin_s / 2 + ahead_s

    def _renew_on(self) -> None:
        pause_s = self._heartbeat_s
        away = False
        while not self._ended.wait(pause_s) and not self.lost.is_set():
            try:
                self._renew()
            except Unavailable as error:
                if not away:
                    _LOG.warning("job %s: its lease cannot be renewed: %s", self.job.id, error)
                away, pause_s = True, _RETRY_S
            else:
                if away:
                    _LOG.warning("job %s: its lease is renewed again", self.job.id)
                away, pause_s = False, self._heartbeat_s

    def _renew(self) -> None:
        with self._writing:
            if self._ended.is_set():
                return  # let go while this thread waited: its fence is stale by our own doing
            asked_at = time.monotonic()
            with self._database.write() as s:
                renewal = self.ask(s)
            self.renewed(asked_at, renewal)

    def ask(self, s: Session) -> leases.Renewal | None:
        """Renew it for `lease_s`; None when it is over."""
        return leases.renew(s, self.job.id, self.fence, lease_s=self.lease_s)

    def blame(self, failure: Failure) -> Failure:
        """What the engine's failure came of, as far as another worker's is known to have had a part in it."""
        return failure

    def _guard(self) -> None:
        while not self._ended.wait(_GUARD_TICK_S) and not self.lost.is_set():
            if self.is_ending():
                self._lose(f"the lease could not be renewed for {self.lease_s - self._margin_s:.0f} s")

    def _lose(self, why: str) -> None:
        _LOG.error("job %s, attempt %d: %s; the engine is stopped", self.job.id, self.fence, why)
        self.lost.set()
        self.stop()

    def stop(self) -> None:
        """End the engine, if it is there yet."""
        if self._stop_engine is not None:
            self._stop_engine()
