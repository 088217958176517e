"""The states of a job, and the one table of the changes that are legal."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """Waiting for a worker, for the first time or again."""
    PREPARING = "preparing"
    """A worker holds it and is laying out its run directory."""
    RUNNING = "running"
    """The engine is at work."""
    PAUSING = "pausing"
    """The engine is at work, and has been asked to save a checkpoint and let go."""
    PAUSED = "paused"
    """Nobody holds it; it goes on from its newest checkpoint when it is resumed."""
    SUCCEEDED = "succeeded"
    """Done; its result is published."""
    FAILED = "failed"
    """Given up; the job says why."""
    CANCELLED = "cancelled"
    """Stopped because its owner asked."""


LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.PREPARING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.PREPARING: frozenset(
        {JobState.RUNNING, JobState.PAUSED, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.PAUSING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}
    ),
    # It may end by itself before it is asked, and the pause may be taken back before it takes place.
    JobState.PAUSING: frozenset(
        {JobState.PAUSED, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),  # when its owner asks for another try
    JobState.CANCELLED: frozenset(),
}

HELD = frozenset({JobState.PREPARING, JobState.RUNNING, JobState.PAUSING})
"""A worker holds a lease on the job."""

ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""Nothing follows by itself."""

UNENDED = frozenset(JobState) - ENDED


def sources(target: JobState) -> frozenset[JobState]:
    """The states from which `target` may be reached."""
    return frozenset(state for state, following in LEGAL.items() if target in following)
