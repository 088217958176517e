"""The ids of the current request or attempt, which its log lines and audit entries carry.

They are set where a request or an attempt begins, and visible to all that it calls, in threads with its context too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_IDS: ContextVar[Mapping[str, str | int]] = ContextVar("ids")


def now() -> Mapping[str, str | int]:
    """Return the ids by name: request_id, project_id and key_id, or job_id and attempt."""
    return _IDS.get({})


def put(**ids: str | int) -> None:
    """Add ids for the rest of the current task or thread."""
    _IDS.set({**now(), **ids})


@contextmanager
def work(**ids: str | int) -> Iterator[None]:
    """Add ids within the body."""
    token = _IDS.set({**now(), **ids})
    try:
        yield
    finally:
        _IDS.reset(token)
