"""The reaper: brings back what a worker, the broker or a person dropped. `python -m workers.recover`."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

from kombu.exceptions import OperationalError

from db import (
    budgets,
    files,
    idempotency,
    leases,
    log_context,
    logs,
    orders,
    outbox,
    preemption,
    queue,
    records,
    uploads,
    webhooks,
    workers,
)
from db.errors import InUse, Unavailable
from db.session import Database
from db.state import JobState
from engine.graders import Ask
from engine.jobs import SPECS
from engine.parts import TrainingSpec
from workers import failures, settle
from workers import queue as broker
from workers.asking import asker
from workers.ballast import Ballast
from workers.blob_sweeper import UnnamedBlobs
from workers.courier import start_courier
from workers.grading import start_grading, stop_grading
from workers.leftovers import TIDY_EVERY_S, UPLOAD_AT_MOST_S, tidy
from workers.queue import Dispatcher
from workers.settings import WorkerSettings

_SWEEP_EVERY_S = 1.0
_SENT_KEPT_S = 3600.0
_WORKERS_KEPT_S = 24 * 3600.0
_DELIVERIES_KEPT_S = 30 * 24 * 3600.0
_BATCH = 200
_SAVING = frozenset(kind for kind, spec in SPECS.items() if issubclass(spec, TrainingSpec))
"""Kinds whose jobs save checkpoints."""
_AMOUNTS = {"worker_s": "budget of seconds of workers", "money": "budget of money"}
_LOG = logging.getLogger(__name__)


def bring_back(database: Database, settings: WorkerSettings) -> int:
    """Queue or fail every held job whose lease ran out; how many there were.

    A lease that has run out cannot be renewed any more, so nobody is overtaken here.
    """
    with database.read() as s:
        lost = [(job.id, job.fence, job.worker) for job in leases.expired(s, _BATCH)]
    for job_id, fence, worker in lost:
        with log_context.work(job_id=job_id, attempt=fence):
            with database.write() as s:
                state = settle.fail(s, job_id, fence, failures.WORKER_LOST, settings)
            if state is not None:
                _LOG.warning("job %s, attempt %d: worker %s was lost; now %s", job_id, fence, worker, state.value)
    return len(lost)


def redispatch(database: Database, settings: WorkerSettings, messages: Callable[[], int]) -> int:
    """Have messages that nobody acted on sent again, as many as the broker lacks; how many there were.

    `messages` counts those in the broker. While there are as many as jobs could start, no message is lost:
    the workers are busy.
    """
    with database.read() as s:
        overdue = [job.id for job in leases.unclaimed(s, settings.redispatch_after_s, _BATCH)]
        startable = queue.startable(s) if overdue else 0
    if not overdue:
        return 0
    try:
        lacking = max(0, startable - messages())
    except OperationalError:  # the dispatcher tells of it; what is lost is sent again once the broker is back
        return 0
    lost = overdue[:lacking]
    if lost:
        with database.write() as s:
            for job_id in lost:
                outbox.add(s, job_id)
    return len(lost)


def make_way(database: Database, settings: WorkerSettings) -> str | None:
    """Have a job of lower priority make way for the one that goes next, where that is wanted; the id of that job."""
    if settings.preempt_after_s is None:
        return None
    with database.write() as s:
        job = preemption.arrange(s, kinds=_SAVING, after_s=settings.preempt_after_s)
    if job is None:
        return None
    with log_context.work(job_id=job.id, attempt=job.fence):
        _LOG.info("job %s of priority %d makes way for one of higher priority", job.id, job.priority)
    return job.id


def hold_overdrawn(database: Database, settings: WorkerSettings) -> int:
    """Pause the jobs that wait or run though their budget of time or money is used up; how many there were.

    One that runs saves a checkpoint first. It can be resumed once there is room again.
    """
    with database.read() as s:
        over = [(job.project_id, job.id, excess) for job, excess in budgets.overdrawn(s, settings.price_per_hour)]
    for project_id, job_id, excess in over:
        told = f"the {_AMOUNTS[excess.amount]} of {excess.owner_id} for this month, {excess.most:,.2f}, is used up"
        with database.write() as s:
            job = orders.pause(s, project_id, job_id)
            if job is not None and job.state in {JobState.PAUSING, JobState.PAUSED}:
                records.note(s, job_id, "over_budget", "warn", f"paused: {told}. Resume it when there is room again.")
        with log_context.work(job_id=job_id):
            _LOG.info("job %s is paused: %s", job_id, told)
    return len(over)


def in_broker() -> int:
    """How many messages wait in the broker."""
    with broker.connect() as connection:
        return broker.length(connection)


def expire_files(database: Database, after: str = "") -> str:
    """Delete files whose time is over; one that an unfinished job names stays until the job has ended.

    So many at once, from behind the id `after`; which the next call goes on from.
    """
    with database.read() as s:
        over = files.expired(s, _BATCH, after)
    for project_id, file_id in over:
        try:
            with database.write() as s:
                files.delete(s, project_id, file_id)
        except InUse as error:
            _LOG.info("an expired file stays: %s", error)
    return over[-1][1] if len(over) == _BATCH else ""


def purge(database: Database) -> int:
    """Drop the records of messages, creates, workers, cut uploads and webhooks that are a while old; how many."""
    with database.write() as s:
        sent, gone = outbox.purge(s, _SENT_KEPT_S), workers.forget(s, _WORKERS_KEPT_S)
        told = webhooks.purge(s, _DELIVERIES_KEPT_S)
        return sent + gone + told + idempotency.purge(s) + uploads.forget_expired(s, UPLOAD_AT_MOST_S)


def run(database: Database, settings: WorkerSettings, ended: threading.Event) -> None:
    """Sweep until `ended`; an outage of the database is sat out."""
    blobs = settings.open_blobs()
    dispatcher = Dispatcher(database)
    dispatcher.start()
    courier = start_courier(database, settings.home)
    gradings = start_grading(database, blobs, partial(_asker_of, database, settings))
    unnamed = UnnamedBlobs(database, blobs, settings.keep_blobs_s)
    ballast = Ballast(settings.home / "ballast", settings.ballast_bytes)
    next_tidy_at, expired_to = 0.0, ""
    away = False
    while not ended.wait(_SWEEP_EVERY_S):
        try:
            ballast.keep()
            bring_back(database, settings)
            make_way(database, settings)
            hold_overdrawn(database, settings)
            if redispatch(database, settings, in_broker):
                dispatcher.wake()
            if time.monotonic() >= next_tidy_at:
                next_tidy_at = time.monotonic() + TIDY_EVERY_S
                try:
                    tidy(database, settings)
                    purge(database)
                    expired_to = expire_files(database, expired_to)
                    blobs.discard_stale(UPLOAD_AT_MOST_S, time.time())
                    unnamed.remove_some(time.time())
                except Unavailable:
                    raise
                except OSError as error:  # the disk's: jobs are brought back all the same
                    _LOG.warning("tidying is left to the next time: %s", error)
        except Unavailable as error:
            if not away:
                _LOG.warning("%s", error)
            away = True
        else:
            away = False
    stop_grading(gradings)
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
