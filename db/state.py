"""The states of a job, and the table of legal transitions."""

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    """Waiting for a worker, for the first time or again."""
    PREPARING = "preparing"
    """A worker holds it and is laying out its run directory."""
    RUNNING = "running"
    """The engine is running."""
    PAUSING = "pausing"
    """The engine is running, and has been asked to save a checkpoint and exit."""
    PAUSED = "paused"
    """No worker holds it; once resumed, it goes on from its newest checkpoint."""
    SUCCEEDED = "succeeded"
    """It has ended and its result is published."""
    FAILED = "failed"
    """It was given up for the reason that the job records."""
    CANCELLED = "cancelled"
    """It was stopped on its owner's request."""


LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.PREPARING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.PREPARING: frozenset(
        {JobState.RUNNING, JobState.PAUSED, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.PAUSING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}
    ),
    # It may end before it pauses, and the pause may be withdrawn before that.
    JobState.PAUSING: frozenset(
        {JobState.PAUSED, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),  # on its owner's request
    JobState.CANCELLED: frozenset(),
}

HELD = frozenset({JobState.PREPARING, JobState.RUNNING, JobState.PAUSING})
"""A worker holds a lease on the job."""

ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""No transition follows unless it is requested."""

UNENDED = frozenset(JobState) - ENDED


def sources(target: JobState) -> frozenset[JobState]:
    """Return the states that `target` may directly follow."""
    return frozenset(state for state, following in LEGAL.items() if target in following)
