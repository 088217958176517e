"""What the present work is about: the ids that its log lines and its entries in the audit log carry.

A request or an attempt puts them; what it calls, in threads that it hands work to as well, finds them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_ABOUT: ContextVar[Mapping[str, str | int]] = ContextVar("about")


def now() -> Mapping[str, str | int]:
    """The ids by their names: request_id, project_id and key_id, or job_id and attempt."""
    return _ABOUT.get({})


def put(**ids: str | int) -> None:
    """From here on, in this task or thread, work is about these too."""
    _ABOUT.set({**now(), **ids})


@contextmanager
def work(**ids: str | int) -> Iterator[None]:
    """Inside, work is about these too."""
    before = _ABOUT.set({**now(), **ids})
    try:
        yield
    finally:
        _ABOUT.reset(before)
