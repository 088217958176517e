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
    SUCCEEDED = "succeeded"
    """Done; its result is published."""
    FAILED = "failed"
    """Given up; the job says why."""
    CANCELLED = "cancelled"
    """Stopped because its owner asked."""


LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.PREPARING, JobState.CANCELLED, JobState.FAILED}),
    JobState.PREPARING: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

HELD = frozenset({JobState.PREPARING, JobState.RUNNING})
"""A worker holds a lease on the job."""

ENDED = frozenset(state for state, following in LEGAL.items() if not following)
"""Nothing follows."""


def sources(target: JobState) -> frozenset[JobState]:
    """The states from which `target` may be reached."""
    return frozenset(state for state, following in LEGAL.items() if target in following)
