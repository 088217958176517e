"""Gangs: attempts on several workers. One holds the job and leads; each of the others has a part and reports its end."""

import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

from db import gangs, leases, queue, traces
from db.errors import Unavailable
from db.gangs import Gang
from db.session import Database, Session
from engine.errors import EXIT_OK, EXIT_STOPPED, FailureClass, TouchLost
from engine.events import EVENT, Failed
from workers import failures, machine, process, settle, stage
from workers.attempt import AskedToStop, Attempt
from workers.celery_signals import Slot
from workers.claim import Lease, LeaseLostError
from workers.code_version import code_version
from workers.failures import Failure
from workers.kills import MemoryKills
from workers.process import EngineProcess
from workers.settings import WorkerSettings
from workers.tail import Tail

ASK_AGAIN_S = 1.0
"""The time after which a worker that waits for others asks again whether they are enough."""
_TICK_S = 0.05
_VAGUE = TouchLost.CODE
_OF_OTHERS = frozenset({_VAGUE, failures.ENGINE_KILLED})
"""The codes of an engine that ended because another one did, or that was stopped here for that reason."""
_LOG = logging.getLogger(__name__)


class Leading(Lease):
    """The lease of the worker that leads. When another is lost, or its engine fails, the engine here is stopped."""

    fault: gangs.Fault | None = None

    def stop_on_loss(self, stop_engine: Any) -> None:
        super().stop_on_loss(stop_engine)
        if self.fault is not None:
            stop_engine()

    def ask(self, s: Session) -> leases.Renewal | None:
        renewal = super().ask(s)
        if renewal is not None and not self._knows():
            self.fault = gangs.fault(s, self.job.id, self.fence, vague=_VAGUE)
            if self.fault is not None:
                _LOG.error(
                    "job %s: worker %s has failed or is lost; the engine is stopped", self.job.id, self.fault.worker
                )
                self.stop()
        return renewal

    def blame(self, failure: Failure) -> Failure:
        """Return the failure of another worker's engine, where the one here has only lost contact with it."""
        if failure.code not in _OF_OTHERS:
            return failure
        if failure.code == _VAGUE:
            self._await_cause()
        if self.fault is None:
            return failure
        worker, fields = self.fault
        if fields is None:
            message = f"Worker {worker}, which had a part in the job, has not been heard of."
            return failures.WORKER_LOST._replace(message=message, exit_code=failure.exit_code)
        cause = Failure(**fields)._replace(failure=FailureClass(fields["failure"]), worker=worker)
        return failure if cause.code == TouchLost.CODE else cause

    def _knows(self) -> bool:
        """Return whether it is known why another worker's part ended, or that the worker is lost."""
        return self.fault is not None and (self.fault.failure or {}).get("code") != _VAGUE

    def _await_cause(self) -> None:
        """Wait until the cause is known: a worker that was killed counts as lost once its lease is over."""
        deadline = time.monotonic() + self.lease_s + 2 * self._heartbeat_s
        while not self._knows() and not self.lost.is_set() and time.monotonic() < deadline:
            time.sleep(_TICK_S)


class Part(Lease):
    """The lease of another worker of the gang, on its part in the attempt."""

    def ask(self, s: Session) -> leases.Renewal | None:
        return gangs.renew(s, self.job.id, self.fence, self.place.node_rank, lease_s=self.lease_s)

    @property
    def place(self) -> Gang:
        assert self.gang is not None, "a part is a part of a gang"
        return self.gang


def take(
    database: Database, worker: str, settings: WorkerSettings, *, waits: bool = False
) -> Lease | leases.Offer | None:
    """Claim the job that goes next, or take part in one that another worker has claimed; None when there is none.

    Returns an offer where the job needs more workers than are waiting for it. `waits` says that the last call of this
    worker returned an offer.
    """
    # A worker can lead only from its second call on, so a port is looked for only then.
    meeting = _meeting(settings) if waits else None
    asked_at = time.monotonic()
    with database.write() as s:
        queue.lock(s)  # another worker has enlisted this one by now, or cannot before this one holds another job
        part = gangs.enlisted(s, worker)
        if part is not None:
            gangs.renew(s, part.job.id, part.fence, part.gang.node_rank, lease_s=settings.lease_s)
            return Part(database, leases.Claim(*part), settings, asked_at)
        taken = leases.claim_next(s, worker=worker, lease_s=settings.lease_s, meeting=meeting, waits=waits)
        if waits and not isinstance(taken, leases.Offer):
            gangs.withdraw(s, worker)
    if isinstance(taken, leases.Claim):
        return (Leading if taken.gang else Lease)(database, taken, settings, asked_at)
    return taken


def _meeting(settings: WorkerSettings) -> gangs.Meeting | None:
    try:
        return gangs.Meeting(*machine.meeting(settings))
    except OSError as error:
        _LOG.warning("this worker can lead no gang: no port is available at its address: %s", error)
        return None


def staged(slot: Slot, lease: Lease, run_dir: Path, stopping: threading.Event) -> Attempt:
    """Lay out the run directory of an attempt, or of this worker's part in it.

    Raises:
        SpecError, DataError: a file or an artifact that the spec names is no longer there.
        BlobsUnavailable: the blob store is away.
        AskedToStop: the job or the worker is to stop first.
        LeaseLostError: the attempt is over.
    """
    code_version()  # hashes the engine's sources the first time, which no transaction is to wait for
    planned = _placed(lease.read(lambda s: stage.plan(s, lease.job, lease.fence)), lease, slot)
    attempt = Attempt(lease, run_dir, planned.lineage, slot.blobs, slot.settings, stopping)
    with traces.span("job.stage"):
        stage.lay_out(planned, slot.blobs, run_dir, attempt.heed)
        stage.share_cache(run_dir, slot.settings.cache_dir)
    lease.bind(run_dir)
    return attempt


def _placed(planned: stage.StagingPlan, lease: Lease, slot: Slot) -> stage.StagingPlan:
    """Add the worker's place among the others of the gang, for its engine."""
    if lease.gang is None:
        return planned
    rank, count, meeting = lease.gang
    place = {
        "node_rank": rank,
        "num_nodes": count,
        "master_addr": meeting.address,
        "master_port": meeting.port,
        "interface": machine.interface(machine.address(slot.settings)),
    }
    return planned._replace(job=planned.job | {"gang": place})


def take_part(slot: Slot, part: Part, stopping: threading.Event) -> None:
    """Stage, run this worker's processes of the engine, and report how they ended. The leader reports everything else.

    Raises:
        LeaseLostError: the attempt is over.
    """
    run_dir = slot.settings.run_dir(part.job.id, part.fence, part.place.node_rank)
    failure: Failure | None
    try:
        attempt = staged(slot, part, run_dir, stopping)
        failure = _run(attempt, slot.warm.start(run_dir))
    except LeaseLostError:
        raise
    except AskedToStop:
        failure = failures.STOPPING
    except Exception as error:  # noqa: BLE001 - the edge: the leader is to learn of a mistake of ours
        failure = failures.classify_error(error)
    if failure is not None:
        part.rest_s = settle.wait_s(failure, slot.settings)
    fields = None if failure is None else _stored(failure)
    part.write(lambda s: gangs.end(s, part.job.id, part.fence, part.place.node_rank, fields), last=True)


def _run(attempt: Attempt, engine: EngineProcess) -> Failure | None:
    """Follow the engine to its end, and return how it failed, if it did."""
    part, kills, kill_at = attempt.lease, MemoryKills(engine.pid), float("inf")
    part.stop_on_loss(engine.kill)
    try:
        while (exit_code := engine.poll()) is None:
            kills.look()
            if attempt.stopping.is_set() and kill_at == float("inf"):
                engine.ask(signal.SIGTERM)  # all ranks stop at one step, and the first saves
                kill_at = time.monotonic() + attempt.settings.stop_grace_s
            if time.monotonic() >= kill_at:
                engine.kill()
            time.sleep(_TICK_S)
        killed_for_memory = kills.any_lately()
    finally:
        engine.end()
    if part.lost.is_set() or part.is_ending():
        raise LeaseLostError(part.job.id)
    if exit_code in {EXIT_OK, EXIT_STOPPED}:
        return None
    failed = _reported(attempt.run_dir)
    if failed is None and attempt.stopping.is_set():
        return failures.STOPPING._replace(
            message="It was stopped, and its engine killed since it did not save and stop in time.", exit_code=exit_code
        )
    failure = failures.classify(exit_code, failed, process.log_path(attempt.run_dir))
    return failures.for_want_of_memory(failure, None) if killed_for_memory else failure


def _reported(run_dir: Path) -> Failed | None:
    events = [EVENT.validate_json(line) for line in Tail(run_dir / "events.jsonl").lines()]
    return next((event for event in reversed(events) if isinstance(event, Failed)), None)


def _stored(failure: Failure) -> dict[str, Any]:
    """Return the fields of a failure for the leader, which itself adds the worker: an older one knows no such field."""
    return {name: value for name, value in failure._asdict().items() if name != "worker"}


def leave(slot: Slot) -> None:
    """Withdraw the worker's offer; if it was enlisted meanwhile, end that part at once."""
    try:
        with slot.database.write() as s:
            queue.lock(s)
            part = gangs.enlisted(s, slot.name)
            if part is not None:
                gangs.end(s, part.job.id, part.fence, part.gang.node_rank, _stored(failures.STOPPING))
            gangs.withdraw(s, slot.name)
    except Unavailable as error:
        _LOG.debug("an offer is left to run out: %s", error)
