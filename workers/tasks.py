"""The one Celery task: attempts at jobs, each from its claim to its settlement."""

import logging
import threading

from db import log_context, traces
from db.errors import Unavailable
from db.leases import Offer
from workers import celery_signals, failures, gang, settle
from workers.attempt import AskedToStop
from workers.celery_signals import Slot
from workers.claim import Lease, LeaseLostError
from workers.gang import Part
from workers.queue import RUN_JOB, app
from workers.supervise import Supervision

_REST_LONGER = 1.1
"""A worker that put a job off rests for longer than the job, so that another worker comes first."""
_LOG = logging.getLogger(__name__)


@app.task(name=RUN_JOB)
def run_job(job_id: str) -> None:
    """Run jobs, in the order of the queue, until there is none to take.

    The message only says that there is work; which job is taken is decided in the database at each claim. A message
    that arrives twice, or too late, finds nothing to do.
    """
    slot = celery_signals.slot()
    with celery_signals.stop_signal() as stopping, slot.presence.at_work():
        try:
            run_all(slot, stopping)
        except Unavailable as error:
            _LOG.warning("the message for job %s is dropped, a later one follows: %s", job_id, error)


def run_all(slot: Slot, stopping: threading.Event) -> None:
    """Take and run jobs until there is none to take, or the worker is to stop."""
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
        if taken.rest_s:
            _rest(slot, taken.rest_s * _REST_LONGER, stopping)
    if waits:
        gang.leave(slot)


def _rest(slot: Slot, rest_s: float, stopping: threading.Event) -> None:
    _LOG.warning("this worker takes no job for %g s", rest_s)
    with slot.presence.resting():
        stopping.wait(rest_s)


def run(slot: Slot, lease: Lease, stopping: threading.Event) -> None:
    """Carry out one attempt, or this worker's part in it, under its lease."""
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
    """Stage, supervise, settle. Any error becomes a failure of the attempt, with a class and a mend.

    Raises:
        LeaseLostError: the job is another attempt's by now.
    """
    run_dir = slot.settings.run_dir(lease.job.id, lease.fence)
    try:
        attempt = gang.staged(slot, lease, run_dir, stopping)
        lease.begin_running()
        with traces.span("job.engine"):
            # The next engine is started now, so that its imports are done when this one ends.
            end = Supervision(attempt, slot.warm.start(run_dir), slot.warm.prepare).run()
        with traces.span("job.settle", exit_code=end.exit_code):
            settle.settle(attempt, end)
    except LeaseLostError:
        raise
    except AskedToStop:
        settle.leave_off(lease)
    except Exception as error:  # noqa: BLE001 - the edge: a mistake of ours must not leave a job "running"
        settle.put_off_or_give_up(lease, failures.classify_error(error), slot.settings)
