"""Why a job waits, where it stands, and when it should start."""

from collections.abc import Sequence
from typing import NamedTuple

from db import attempts, placement, projects, queue, workers
from db.models import Job
from db.queue import Place
from db.session import Session
from db.state import ENDED, JobState
from db.workers import Fleet

_UNSENT_S = 5.0


class Wait(NamedTuple):
    """A job's place in the queue and why it waits; all fields are None for a job that need not wait."""

    position: int | None = None
    reason: str | None = None
    starts_at: float | None = None


def waits(session: Session, rows: Sequence[Job], *, fresh: bool = False) -> list[Wait]:
    """Return the wait of each job in turn; `fresh` says that this transaction made the jobs."""
    queued = [job for job in rows if job.state == JobState.QUEUED]
    if not queued:
        return [Wait(reason=_held_back(job)) for job in rows]
    fleet = workers.look(session)
    places = queue.places(session, queued, fleet, fresh=fresh)
    return [
        _of_queued(session, job, places[job.id], fleet) if job.id in places else Wait(reason=_held_back(job))
        for job in rows
    ]


def _held_back(job: Job) -> str | None:
    """Say in one sentence why a job that is not queued makes no progress, or is about to stop."""
    if job.cancel_requested_at is not None and job.state not in ENDED:
        return "it is being cancelled; its worker stops it at the next heartbeat"
    if job.state == JobState.PAUSED:
        return "it is paused until it is resumed"
    if job.preempted_by is not None:
        return "it saves a checkpoint to make way for a job of higher priority"
    return None


def _of_queued(session: Session, job: Job, place: Place, fleet: Fleet) -> Wait:
    able = len(fleet.alive(job.requires)) >= job.nodes
    starts_in_s = fleet.starts_in_s(place.position) if able else None
    if job.not_before is not None and job.not_before > fleet.now:
        why = attempts.last_words(session, job) or f"attempt {job.fence} ended early"
        reason = f"{why}; the next attempt starts in {job.not_before - fleet.now:.0f} s"
        starts_at = None if starts_in_s is None else max(job.not_before, fleet.now + starts_in_s)
        return Wait(place.position, reason, starts_at)
    if place.over:
        held, starts_in_s = fleet.held(job.project_id), fleet.frees_in_s(job.project_id, place.over)
        project = projects.get(session, job.project_id)
        limit = project.max_running_jobs if project else None
        reason = f"project limit: {held} of at most {limit} jobs of the project run, {place.over - 1} wait ahead"
    else:
        reason = _for_a_worker(job, place, fleet)
    return Wait(place.position, reason, None if starts_in_s is None else fleet.now + starts_in_s)


def _for_a_worker(job: Job, place: Place, fleet: Fleet) -> str:
    ahead = place.position - 1
    if not fleet.alive():
        return f"no worker is alive, {ahead} are ahead" if ahead else "no worker is alive; it is next"
    if reason := _for_such_workers(job, place, fleet):
        return reason
    if place.position > fleet.free(job.requires):
        running = len(fleet.runs)
        busy = "1 job runs" if running == 1 else f"{running} jobs run"
        stands = "it is next" if not ahead else "1 is ahead" if ahead == 1 else f"{ahead} are ahead"
        return f"no worker is free: {busy}, {stands}"
    if job.dispatched_at is None and fleet.now - job.created_at > _UNSENT_S:
        return "the broker has not taken its message yet; it is sent again until it does"
    return "it is next: the first free worker takes it"


def _for_such_workers(job: Job, place: Place, fleet: Fleet) -> str | None:
    """Say what a job waits for that needs several workers at once, or certain ones; None if that is not the reason."""
    able, kind = len(fleet.alive(job.requires)), f" with {placement.told(job.requires)}" if job.requires else ""
    if not able:
        return f"it needs a worker{kind}, and none is alive; others go ahead meanwhile"
    if job.nodes > able:
        return f"it needs {job.nodes} workers{kind} at once, and {able} are alive; others go ahead meanwhile"
    if job.nodes > 1:
        free = (
            f"it needs {job.nodes} workers{kind} at once; of {able} that are alive {fleet.free(job.requires)} are free"
        )
        return free if place.position == 1 else f"{free}, and {_ahead(place.position - 1)}"
    return None


def _ahead(jobs: int) -> str:
    return "1 job is ahead" if jobs == 1 else f"{jobs} jobs are ahead"
