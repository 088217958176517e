"""Gangs: an attempt on several workers. One holds the job and leads; each of the others has a part and tells its end."""

import logging
import signal
import threading
import time
from typing import Any

from db import gangs, leases, queue
from db.errors import BlobsUnavailable, Unavailable, is_full
from db.gangs import Gang
from db.session import Database, Session
from engine.errors import EXIT_OK, EXIT_STOPPED, DataError, FailureClass, SpecError, TouchLost
from engine.events import EVENT, Failed
from workers import failures, machine, process, stage
from workers.attempt import AskedToStop, Attempt
from workers.celery_signals import Slot
from workers.claim import Lease, LeaseLostError
from workers.failures import Failure
from workers.kills import MemoryKills
from workers.process import EngineProcess
from workers.settings import WorkerSettings
from workers.tail import Tail

ASK_AGAIN_S = 1.0
"""A worker that waits for others looks so often whether they are enough."""
_TICK_S = 0.05
_VAGUE = TouchLost.CODE
_OF_OTHERS = frozenset({_VAGUE, failures.ENGINE_KILLED})
"""What an engine says, or is said of it, that ended because another did, or was stopped here for that."""
_LOG = logging.getLogger(__name__)


class Leading(Lease):
    """The lease of the worker that leads: when another is lost, or its engine fails, the engine here is stopped."""

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
        """What another worker's engine ended with, where the one here has only lost touch with it."""
        if failure.code not in _OF_OTHERS:
            return failure
        if failure.code == _VAGUE:
            self._await_word()
        if self.fault is None:
            return failure
        worker, told = self.fault
        if told is None:
            message = f"Worker {worker}, which had a part in the job, has not been heard of."
            return failures.WORKER_LOST._replace(message=message, exit_code=failure.exit_code)
        cause = Failure(**told)._replace(failure=FailureClass(told["failure"]))
        return (
            failure if cause.code == TouchLost.CODE else cause._replace(message=f"On worker {worker}: {cause.message}")
        )

    def _knows(self) -> bool:
        """Why another worker's part ended, or that it is lost."""
        return self.fault is not None and (self.fault.failure or {}).get("code") != _VAGUE

    def _await_word(self) -> None:
        """A worker that was killed is known to be lost once its lease is over."""
        deadline = time.monotonic() + self.lease_s + 2 * self._heartbeat_s
        while not self._knows() and not self.lost.is_set() and time.monotonic() < deadline:
            time.sleep(_TICK_S)


class Part(Lease):
    """The lease of one of the others: on its part in the attempt alone."""

    def ask(self, s: Session) -> leases.Renewal | None:
        return gangs.renew(s, self.job.id, self.fence, self.place.node_rank, lease_s=self.lease_s)

    @property
    def place(self) -> Gang:
        assert self.gang is not None, "a part is a part of a gang"
        return self.gang


def take(
    database: Database, worker: str, settings: WorkerSettings, *, waits: bool = False
) -> Lease | leases.Offer | None:
    """Claim the job that goes next, or take part in one that others have claimed; None when there is none to take.

    An offer: the job needs more workers. `waits` says that this one's last answer was such an offer.
    """
    meeting = _meeting(settings) if waits else None  # who comes first waits; the last comes again, and leads
    asked_at = time.monotonic()
    with database.write() as s:
        queue.lock(s)  # whoever enlists this worker has done so, or does not before it has another job
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
        _LOG.warning("this worker can lead no others: no port of its address can be had: %s", error)
        return None


def told_of(planned: stage.StagingPlan, lease: Lease, slot: Slot) -> stage.StagingPlan:
    """With the worker's place among the others, for its engine."""
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
    """Stage, run the engine's processes of this worker, and tell how they ended. All else is the leader's to tell.

    Raises:
        LeaseLostError: the attempt is over.
    """
    run_dir = slot.settings.run_dir(part.job.id, part.fence, part.place.node_rank)
    failure: Failure | None
    try:
        planned = told_of(part.write(lambda s: stage.plan(s, part.job, part.fence)), part, slot)
        attempt = Attempt(part, run_dir, planned.lineage, slot.blobs, slot.settings, stopping)
        stage.lay_out(planned, slot.blobs, run_dir, attempt.heed)
        stage.share_cache(run_dir, slot.settings.cache_dir)
        part.bind(run_dir)
        failure = _run(attempt, slot.warm.start(run_dir))
    except LeaseLostError:
        raise
    except (SpecError, DataError) as error:
        failure = Failure(error.failure, error.code, error.message, error.mend)
    except AskedToStop:
        failure = failures.STOPPING
    except BlobsUnavailable as error:
        failure = failures.NO_BLOBS._replace(message=str(error))
    except Exception as error:  # noqa: BLE001 - the edge: whoever leads is to hear of a mistake of ours
        _LOG.exception("job %s, attempt %d", part.job.id, part.fence)
        failure = failures.NO_SPACE._replace(message=str(error)) if is_full(error) else failures.of_ours(error)
    told = None if failure is None else failure._asdict()
    part.write(lambda s: gangs.end(s, part.job.id, part.fence, part.place.node_rank, told), last=True)


def _run(attempt: Attempt, engine: EngineProcess) -> Failure | None:
    """Follow the engine to its end; how it failed, if it did."""
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
    events = [EVENT.validate_json(line) for line in Tail(attempt.run_dir / "events.jsonl").lines()]
    told = next((event for event in reversed(events) if isinstance(event, Failed)), None)
    failure = failures.classify(exit_code, told, process.log_path(attempt.run_dir))
    return failures.for_want_of_memory(failure, None) if killed_for_memory else failure


def leave(slot: Slot) -> None:
    """It waits for no others any longer; who has enlisted it meanwhile hears that it does not come."""
    try:
        with slot.database.write() as s:
            queue.lock(s)
            part = gangs.enlisted(s, slot.name)
            if part is not None:
                gangs.end(s, part.job.id, part.fence, part.gang.node_rank, failures.STOPPING._asdict())
            gangs.withdraw(s, slot.name)
    except Unavailable as error:
        _LOG.debug("an offer is left to run out: %s", error)
