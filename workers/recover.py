"""The reaper: brings back jobs and messages that a worker or the broker lost. `python -m workers.recover`."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from kombu.exceptions import OperationalError

from db import (
    budgets,
    jobs,
    leases,
    log_context,
    logs,
    orders,
    outbox,
    preemption,
    queue,
    records,
)
from db.errors import Unavailable
from db.session import Database, Session
from db.state import JobState
from engine.graders import Ask
from engine.jobs import SPECS
from engine.parts import TrainingSpec
from workers import failures, settle
from workers import queue as broker
from workers.asking import asker
from workers.ballast import Ballast
from workers.courier import start_courier
from workers.grading import start_grading, stop_grading
from workers.housekeeping import Housekeeping
from workers.queue import Dispatcher
from workers.settings import WorkerSettings

_SWEEP_EVERY_S = 1.0
_BATCH = 200
_SAVING = frozenset(kind for kind, spec in SPECS.items() if issubclass(spec, TrainingSpec))
"""Kinds whose jobs save checkpoints."""
_PAUSED = frozenset({JobState.PAUSING, JobState.PAUSED})
_AMOUNTS = {"worker_s": "budget of seconds of workers", "money": "budget of money"}
_LOG = logging.getLogger(__name__)


def bring_back(database: Database, settings: WorkerSettings) -> int:
    """Queue or fail every held job whose lease ran out, and return how many.

    A lease that has run out cannot be renewed, so no worker still holds such a job.
    """
    with database.read() as s:
        lost = [(job.id, job.fence, job.worker) for job in leases.expired(s, _BATCH)]
    for job_id, fence, worker in lost:
        with log_context.work(job_id=job_id, attempt=fence), _kept_apart(job_id):
            with database.write() as s:
                state = settle.fail(s, job_id, fence, failures.WORKER_LOST, settings)
            if state is not None:
                _LOG.warning("job %s, attempt %d: worker %s was lost; now %s", job_id, fence, worker, state.value)
    return len(lost)


@contextmanager
def _kept_apart(job_id: str) -> Iterator[None]:
    """Log an error about one job, so that it holds up no other. An outage of the database is raised."""
    try:
        yield
    except Unavailable:
        raise
    except Exception:  # noqa: BLE001 - the edge: without it the whole reaper would end
        _LOG.exception("job %s is left to the next sweep", job_id)


def redispatch(database: Database, settings: WorkerSettings, messages: Callable[[], int]) -> int:
    """Send again the messages of jobs that no worker claimed, as many as the broker lacks, and return how many.

    `messages` counts those in the broker. While there are as many as jobs that could start, none is lost: the workers
    are busy.
    """
    with database.read() as s:
        overdue = [job.id for job in leases.unclaimed(s, settings.redispatch_after_s, _BATCH)]
        startable = queue.startable(s) if overdue else 0
    if not overdue:
        return 0
    try:
        lacking = max(0, startable - messages())
    except OperationalError:  # the dispatcher logs it; lost messages are sent again once the broker is back
        return 0
    lost = overdue[:lacking]
    if lost:
        with database.write() as s:
            for job_id in lost:
                outbox.add(s, job_id)
    return len(lost)


def make_way(database: Database, settings: WorkerSettings) -> str | None:
    """Have a running job make way for a waiting one of higher priority, where that is wanted, and return its id."""
    if settings.preempt_after_s is None:
        return None
    with database.read() as s:
        if not preemption.is_due(s, kinds=_SAVING):
            return None
    with database.write() as s:
        job = preemption.arrange(s, kinds=_SAVING, after_s=settings.preempt_after_s)
    if job is None:
        return None
    with log_context.work(job_id=job.id, attempt=job.fence):
        _LOG.info("job %s of priority %d makes way for one of higher priority", job.id, job.priority)
    return job.id


def hold_overdrawn(database: Database, settings: WorkerSettings) -> int:
    """Pause jobs that wait or run although their budget of time or money is used up, and return how many.

    A running job saves a checkpoint first. It can be resumed once the budget has room again.
    """
    with database.read() as s:
        over = budgets.overdrawn(s, settings.price_per_hour, _BATCH)
    held = 0
    for project_id, job_id, excess in over:
        reason = f"the {_AMOUNTS[excess.amount]} of {excess.owner_id} for this month, {excess.most:,.2f}, is used up"
        with log_context.work(job_id=job_id), _kept_apart(job_id):
            with database.write() as s:
                if not _pause(s, project_id, job_id):
                    continue
                records.note(s, job_id, "over_budget", "warn", f"paused: {reason}. Resume it when there is room again.")
            held += 1
            _LOG.info("job %s is paused: %s", job_id, reason)
    return held


def _pause(s: Session, project_id: str, job_id: str) -> bool:
    """Pause a job, unless it has ended, was asked to stop, or was paused by its owner meanwhile."""
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.state in _PAUSED:
        return False
    job = orders.pause(s, project_id, job_id)
    return job is not None and job.state in _PAUSED


def in_broker() -> int:
    """Return how many messages wait in the broker."""
    with broker.connect() as connection:
        return broker.length(connection)


def run(database: Database, settings: WorkerSettings, ended: threading.Event) -> None:
    """Sweep until `ended`, and wait while the database is away."""
    blobs = settings.open_blobs()
    dispatcher = Dispatcher(database)
    dispatcher.start()
    courier = start_courier(database, settings.home)
    gradings = start_grading(database, blobs, partial(_asker_of, database, settings))
    housekeeping = Housekeeping(database, blobs, settings)
    housekeeping.start()
    ballast = Ballast(settings.home / "ballast", settings.ballast_bytes)
    away = False
    while not ended.wait(_SWEEP_EVERY_S):
        try:
            ballast.keep()
            bring_back(database, settings)
            make_way(database, settings)
            hold_overdrawn(database, settings)
            if redispatch(database, settings, in_broker):
                dispatcher.wake()
        except Unavailable as error:
            if not away:
                _LOG.warning("%s", error)
            away = True
        else:
            away = False
    stop_grading(gradings)
    housekeeping.stop()
    dispatcher.stop()
    if courier is not None:
        courier.stop()


def _asker_of(database: Database, settings: WorkerSettings, project_id: str) -> Ask:
    return asker(database, settings.desk_socket, project_id, settings.desk_answer_s)


def main() -> None:
    logs.begin()
    settings = WorkerSettings()
    database = Database(settings.database_url, idle_s=settings.lease_s / 2)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    _LOG.info("the reaper sweeps every %g s", _SWEEP_EVERY_S)
    run(database, settings, ended)
    database.close()


if __name__ == "__main__":
    os.umask(0o077)
    main()
