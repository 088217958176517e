"""Bugs that are planted in the parts of a campaign, to see that the campaign finds them. The product has no such switch."""

import os
from collections.abc import Callable
from typing import Any

_planted: set[str] = set()


def plant(name: str) -> None:
    """Break this process, and those that it forks, in the way of that name."""
    _planted.add(name)
    BUGS[name]()


def planted(name: str) -> bool:
    """Whether this process is broken in that way."""
    return name in _planted


def _forget_the_fence() -> None:
    """Writes of a worker count whatever fence it shows, and however long ago its lease ran out.

    Neither the database looks nor the worker itself: each would do.
    """
    from db import artifacts, fence, leases, records
    from db.models import Job
    from workers.claim import Lease

    def any_holder(_s: Any, job_id: str, _fence: int) -> Any:
        return (Job.id == job_id,)

    for module in (fence, artifacts, leases):
        vars(module)["live"] = any_holder
    for module in (fence, leases):
        vars(module)["held"] = lambda job_id, _fence: (Job.id == job_id,)

    advance = records._advance

    def advance_any(dialect: str, standing: frozenset[str]) -> Any:
        fenced = advance(dialect, standing)
        fenced._where_criteria = fenced._where_criteria[:1]
        return fenced

    records._advance = advance_any
    Lease._is_over = lambda _: False


def _forget_to_sync() -> None:
    """Nothing is synced to the disk."""
    os.fsync = lambda _descriptor: None


def _forget_the_outbox() -> None:
    """A job is told to the broker once, when it is made, and nobody writes down that it has to be."""
    from db import outbox
    from workers import queue

    def send(_s: Any, job_ids: list[str]) -> None:
        try:
            with queue.connect() as connection:
                queue.enqueue([(job_id, 0) for job_id in job_ids], connection)
        except queue.OperationalError:
            return

    outbox.add_all = send
    outbox.add = lambda *_, **__: None


def _forget_the_parent() -> None:
    """Engines do not end with their worker: they are started without knowing it (tests.chaos.nursery)."""


BUGS: dict[str, Callable[[], None]] = {
    "fence": _forget_the_fence,
    "fsync": _forget_to_sync,
    "outbox": _forget_the_outbox,
    "pdeathsig": _forget_the_parent,
}
