"""What the database layer refuses, for the caller to tell its user."""

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class InUse(ValueError):
    """Something cannot be deleted yet; `job_ids` are the jobs that still need it."""

    def __init__(self, what: str, job_ids: list[str]) -> None:
        super().__init__(f"{what} is in use by {', '.join(job_ids)}; wait for the end of the job, or cancel it")
        self.what = what
        self.job_ids = job_ids


class LowSpace(OSError):
    """The disk is nearly full, so nothing more is taken in: what runs must be able to finish."""

    def __init__(self, free_bytes: int, wanted_bytes: int) -> None:
        super().__init__(f"{free_bytes} bytes are free on the disk, below the {wanted_bytes} that are kept in reserve")
        self.free_bytes = free_bytes
        self.wanted_bytes = wanted_bytes


class DiskFull(LowSpace):
    """A write found no room left, on the disk or in the quota."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, 0)
        self.args = (reason,)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Unavailable(ConnectionError):
    """The database cannot be reached or cannot answer now; the same call may succeed later."""


class BlobsUnavailable(Unavailable):
    """The blob store cannot be reached or cannot answer now; the same call may succeed later."""


class Damaged(OSError):
    """The bytes that are stored under a hash are not those of the hash."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the stored file {sha256} is damaged: its bytes are not those of its name")
        self.sha256 = sha256


class DatabaseFull(DiskFull, Unavailable):
    """The database's disk is full: it answers again once there is room."""


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room to write, rather than that the write was wrong."""
    return isinstance(error, LowSpace) or (isinstance(error, OSError) and error.errno in _FULL)
