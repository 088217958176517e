"""The one task: an attempt at a job, from its claim to its settlement."""

import logging
import threading

from db import log_context, traces
from db.errors import BlobsUnavailable, Unavailable, is_full
from db.leases import Offer
from engine.errors import DataError, SpecError
from workers import celery_signals, failures, gang, settle, stage
from workers.attempt import AskedToStop, Attempt
from workers.celery_signals import Slot
from workers.claim import Lease, LeaseLostError
from workers.failures import Failure
from workers.gang import Part
from workers.queue import RUN_JOB, app
from workers.supervise import Supervision

_LOG = logging.getLogger(__name__)


@app.task(name=RUN_JOB)
def run_job(job_id: str) -> None:
    """Run what goes next in the queue, job after job until there is none to take.

    The message says that there is work; which job it is the database decides at each claim. A message that comes twice,
    or too late, finds nothing.
    """
    slot = celery_signals.slot()
    with celery_signals.stop_signal() as stopping:
        try:
            _run_all(slot, stopping)
        except Unavailable as error:
            _LOG.warning("what goes next (job %s was told of) is left to a later message: %s", job_id, error)


def _run_all(slot: Slot, stopping: threading.Event) -> None:
    waits = False
    while not stopping.is_set():
        taken = gang.take(slot.database, slot.name, slot.settings, waits=waits)
        if taken is None:
            return
        waits = isinstance(taken, Offer)
        if isinstance(taken, Offer):
            stopping.wait(gang.ASK_AGAIN_S)
            continue
        run(slot, taken, stopping)
        if not stopping.is_set():
            slot.warm.prepare()
    if waits:
        gang.leave(slot)


def run(slot: Slot, lease: Lease, stopping: threading.Event) -> None:
    """One attempt under its lease."""
    ids = {"job_id": lease.job.id, "attempt": lease.fence}
    with traces.span("job.attempt", lease.job.traceparent, worker=slot.name, **ids), log_context.work(**ids), lease:
        _LOG.info("the attempt begins")
        try:
            if isinstance(lease, Part):
                gang.take_part(slot, lease, stopping)
            else:
                carry_out(slot, lease, stopping)
        except LeaseLostError:
            _LOG.warning("the attempt is given up, its lease is lost")
        else:
            _LOG.info("the attempt has ended")


def carry_out(slot: Slot, lease: Lease, stopping: threading.Event) -> None:
    """Stage, supervise, settle. Whatever goes wrong becomes a failure of the job, told with a class and a mend.

    Raises:
        LeaseLostError: the job is another attempt's by now.
    """
    run_dir = slot.settings.run_dir(lease.job.id, lease.fence)
    try:
        planned = gang.told_of(lease.write(lambda s: stage.plan(s, lease.job, lease.fence)), lease, slot)
        attempt = Attempt(lease, run_dir, planned.lineage, slot.blobs, slot.settings, stopping)
        with traces.span("job.stage"):
            stage.lay_out(planned, slot.blobs, run_dir, attempt.heed)
            stage.share_cache(run_dir, slot.settings.cache_dir)
        lease.bind(run_dir)
        lease.begin_running()
        with traces.span("job.engine"):
            # The next engine has its imports done by when this one ends, be that by a kill.
            end = Supervision(attempt, slot.warm.start(run_dir), slot.warm.prepare).run()
        with traces.span("job.settle", exit_code=end.exit_code):
            settle.settle(attempt, end)
    except LeaseLostError:
        raise
    except AskedToStop:
        settle.leave_off(lease)
    except (SpecError, DataError) as error:
        settle.give_up(lease, Failure(error.failure, error.code, error.message, error.mend), slot.settings)
    except BlobsUnavailable as error:
        _LOG.warning("job %s, attempt %d: %s", lease.job.id, lease.fence, error)
        settle.wait_for_blobs(lease, str(error), slot.settings)
    except Exception as error:  # noqa: BLE001 - the edge: a job must not stay "running" because of a mistake of ours
        if is_full(error):
            _LOG.warning("job %s, attempt %d: %s", lease.job.id, lease.fence, error)
            settle.wait_for_space(lease, str(error), slot.settings)
            return
        _LOG.exception("job %s, attempt %d", lease.job.id, lease.fence)
        settle.give_up(lease, failures.of_ours(error), slot.settings)
