"""The lease of a worker on a job: held under the fence of its claim, for as long as it can be renewed."""

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
    """This attempt no longer holds the job and must not write anything about it."""


class Lease:
    """A claimed job. Inside `with`, one thread renews the lease and another one guards its end.

    They are two threads because a renewal may hang for longer than the lease lasts: a database that is away does not
    always refuse connections. The guard stops the engine a fifth of the lease before its end, so that two attempts
    never run at the same time.
    """

    def __init__(self, database: Database, claim: leases.Claim, settings: WorkerSettings, claimed_at: float) -> None:
        self.job = claim.job
        self.fence = claim.fence
        self.gang = claim.gang
        self.lease_s = settings.lease_s
        self.cancel_requested = threading.Event()
        self.let_go_requested = threading.Event()
        self.lost = threading.Event()
        self.rest_s = 0.0
        """How long its worker should take no job, since what kept it from this one would keep it from any."""
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
            # In a copy of the context, so that their log lines carry the ids of the job too.
            self._threads.append(threading.Thread(target=copy_context().run, args=(act,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(self.lease_s)

    def stop_on_loss(self, stop_engine: Callable[[], None]) -> None:
        """Have `stop_engine` called, from another thread, as soon as the lease is lost."""
        self._stop_engine = stop_engine
        if self.lost.is_set():
            stop_engine()

    def bind(self, run_dir: Path) -> None:
        """Have the run in this folder end by itself just before the lease does, in case this process is suspended."""
        deadline.move(run_dir, self._deadline_s())
        self._run_dir = run_dir

    def read(self, act: Callable[[Session], T]) -> T:
        """Run `act` on one snapshot, and retry while the database is away and the lease holds.

        Raises:
            LeaseLostError: the lease ended first.
        """

        def once() -> T:
            with self._database.read() as s:
                return act(s)

        return self._patiently(once)

    def write(self, act: Callable[[Session], T], *, last: bool = False) -> T:
        """Run `act` in a transaction, and retry while the database is away and the lease holds.

        `last` says that `act` releases the job, so that the lease is not renewed afterwards.

        Raises:
            LeaseLostError: the lease ended first.
        """

        def once() -> T:
            with self._writing:
                with self._database.write() as s:
                    done = act(s)
                    if self._is_over():  # the process was suspended in here: roll back
                        raise LeaseLostError(self.job.id)
                if last:
                    self._ended.set()
                return done

        return self._patiently(once)

    def _patiently(self, once: Callable[[], T]) -> T:
        logged = ""
        while not self.lost.is_set():
            try:
                return once()
            except Unavailable as error:
                if logged != str(error):
                    logged = str(error)
                    _LOG.warning("job %s waits for the database: %s", self.job.id, error)
                self.lost.wait(_RETRY_S)
        raise LeaseLostError(self.job.id)

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until

    def is_ending(self) -> bool:
        """Return whether the lease is so near its end that the engine is stopped, or ends itself (engine.deadline)."""
        return time.monotonic() >= self._until - self._margin_s

    def begin_running(self) -> None:
        """Record that the job's input is laid out and its engine is to run.

        Raises:
            LeaseLostError: the job is another attempt's by now.
        """
        if not self.write(lambda s: leases.begin_running(s, self.job.id, self.fence)):
            raise LeaseLostError(self.job.id)

    def renewed(self, asked_at: float, renewal: leases.Renewal | None) -> None:
        """Apply the result of a renewal that was requested at `asked_at` on the monotonic clock."""
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
        # In this order: if the process is suspended in between, the deadline only comes earlier.
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
                return  # the job was released while this thread waited for the lock
            asked_at = time.monotonic()
            with self._database.write() as s:
                renewal = self.ask(s)
            self.renewed(asked_at, renewal)

    def ask(self, s: Session) -> leases.Renewal | None:
        """Renew the lease for `lease_s` seconds; None when it is over."""
        return leases.renew(s, self.job.id, self.fence, lease_s=self.lease_s)

    def blame(self, failure: Failure) -> Failure:
        """Return the failure that caused this one, if that of another worker's engine is known to have."""
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
        """End the engine, if it has been started."""
        if self._stop_engine is not None:
            self._stop_engine()
