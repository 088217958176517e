"""Errors of the database layer that callers report to their users."""

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class InUse(ValueError):
    """A file or an artifact cannot be deleted yet, because unfinished jobs need it.

    `job_ids` are those of its own project. Of jobs of projects that have permission to use it, `lent` says only
    whether there are any: their ids are not the owner's to see.
    """

    def __init__(self, target_id: str, job_ids: list[str], *, lent: bool = False) -> None:
        users = [", ".join(job_ids)] if job_ids else []
        mends = ["wait for the end of the job, or cancel it"] if job_ids else []
        if lent:
            users.append("a job of another project that has permission to use it")
            mends.append("revoke the permission; what already runs there still has to end")
        super().__init__(f"{target_id} is in use by {' and by '.join(users)}: {'; '.join(mends)}")
        self.job_ids = job_ids
        self.lent = lent


class UnstorableText(ValueError):
    """A parameter of a statement holds text that the database cannot hold, such as a NUL character on PostgreSQL."""


class LowSpace(OSError):
    """The disk is nearly full, so nothing new is stored: running jobs must be able to finish."""

    def __init__(self, free_bytes: int, wanted_bytes: int) -> None:
        super().__init__(f"{free_bytes} bytes are free on the disk, less than the reserve of {wanted_bytes}")
        self.free_bytes = free_bytes
        self.wanted_bytes = wanted_bytes


class DiskFull(LowSpace):
    """A write failed because the disk is full or the quota is used up."""

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
    """The bytes that are stored under a hash do not have that hash."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the stored file {sha256} is damaged: its bytes do not match their hash")
        self.sha256 = sha256


class DatabaseFull(DiskFull, Unavailable):
    """The database cannot write because its disk is full."""


def is_full(error: BaseException) -> bool:
    """Return whether an error means that there is no room to write, rather than that the write was wrong."""
    return isinstance(error, LowSpace) or (isinstance(error, OSError) and error.errno in _FULL)
