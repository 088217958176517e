"""The blob store: files named by the SHA-256 of their bytes, which exist whole or not at all."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from db.errors import BlobsUnavailable, DiskFull, LowSpace, is_full
from db.ids import new_id

LOW_SPACE_BYTES = 512 << 20
CHUNK_BYTES = 1 << 20
_CHECK_SPACE_EVERY_BYTES = 64 << 20
_SYNC_EVERY_BYTES = 32 << 20
_HASHED_INLINE_BYTES = 64 << 10
"""Hashing fewer bytes takes no longer than handing them to a thread."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
# The target is on another device, its filesystem has no hard links, or the blob has the maximal number of them.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})


class Blob(NamedTuple):
    """The name and size of a stored blob."""

    sha256: str
    size_bytes: int


class BlobStore:
    """Blobs on a local disk, as read-only files `root/ab/cd/abcd...`; db.bucket stores them in a bucket instead.

    A blob is written to `root/tmp`, synced, renamed and its folder synced, so a file that is visible under a hash has
    the bytes of that hash, even after kill -9 or a loss of power. An existing blob is not written again, unless its
    size shows that it is damaged. Writing raises LowSpace while fewer than `low_space_bytes` are free; with 0 it does so
    only when the disk is full.
    """

    has_files = True
    """Whether each blob is a local file, so that opening it costs nothing."""

    def __init__(self, root: Path, low_space_bytes: int = LOW_SPACE_BYTES) -> None:
        self.root = root
        self.low_space_bytes = low_space_bytes
        self._tmp = root / "tmp"
        self._owner = root / "owner"
        self._tmp.mkdir(parents=True, exist_ok=True)

    def put_file(self, path: Path) -> Blob:
        """Store a copy of a file."""
        with path.open("rb") as source, self.writer() as writer:
            while chunk := source.read(CHUNK_BYTES):
                writer.write(chunk)
            return writer.commit()

    def writer(self) -> "BlobWriter":
        """Return a writer for a blob that is written in pieces."""
        self.require_space()
        return BlobWriter(self, self._tmp / new_id(str(os.getpid())))

    def path(self, sha256: str) -> Path:
        """Return where the blob is, or would be. Raises ValueError for anything but a lower-case SHA-256."""
        if not is_sha256(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256: 64 digits of 0-9a-f are expected")
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def exists(self, sha256: str) -> bool:
        """Return whether the blob is stored."""
        return self.path(sha256).exists()

    def open(self, sha256: str) -> BinaryIO:
        """Open the blob for reading. Raises FileNotFoundError if it is not stored."""
        return self.path(sha256).open("rb")

    def chunks(self, sha256: str, span: range) -> Iterator[bytes]:
        """Yield these bytes of the blob, at most 1 MiB at a time.

        Raises:
            FileNotFoundError: the blob is not stored.
            OSError: the blob is shorter.
        """
        with self.open(sha256) as file:
            file.seek(span.start)
            left = len(span)
            while left:
                chunk = file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise OSError(f"the blob {sha256} ends {left} bytes early")
                left -= len(chunk)
                yield chunk

    def link_to(self, sha256: str, target: Path) -> None:
        """Create the file `target` with the blob's bytes: a hard link, or a copy where none is possible.

        Raises:
            FileNotFoundError: the blob is not stored.
            BlobsUnavailable: the store has no blobs at all, as when its disk is not mounted.
        """
        source = self.path(sha256)
        try:
            os.link(source, target)
        except FileNotFoundError:
            if not has_stored(self.root):
                raise BlobsUnavailable(f"{self.root} holds no stored files: is its disk not mounted?") from None
            raise
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copy(source, target)

    def renew(self, sha256: str, size_bytes: int | None = None) -> bool:
        """Return whether the blob exists; if it does, it counts as stored now and survives a loss of power.

        A file of another size than `size_bytes` is damaged, and counts as one that does not exist.
        """
        target = self.path(sha256)
        with self._lock(fcntl.LOCK_SH):
            if not target.exists() or size_bytes not in {None, target.stat().st_size}:
                return False
            os.utime(target)
            _sync_folder(target.parent)  # the process that stored it may have been killed before it did so
            return True

    def take(self, temporary: Path, sha256: str) -> None:
        """Turn a synced file in `tmp` into the blob, which survives a loss of power once this returns."""
        target = self.path(sha256)
        _make_folder(target.parent, self.root)
        os.utime(temporary)
        temporary.rename(target)
        _sync_folder(target.parent)

    def writable(self) -> bool:
        """Return whether blobs can be stored, as far as can be determined without storing one."""
        return os.access(self.root, os.W_OK)

    def free_bytes(self) -> int:
        """Return the bytes that are free on the disk."""
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize

    def require_space(self) -> None:
        """Raise LowSpace when the disk is below the reserve."""
        free = self.free_bytes()
        if free < self.low_space_bytes:
            raise LowSpace(free, self.low_space_bytes)

    def discard_stale(self, older_than_s: float, now: float) -> int:
        """Remove the files that killed writers left in `tmp`, and return their number."""
        stale = [path for path in self._tmp.iterdir() if _older(path, now - older_than_s)]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def unused_since(self, folder: str, moment: float) -> list[str]:
        """Return the blobs below `root/folder` (two hexadecimal digits) that were not stored since `moment`."""
        found = (self.root / folder).glob("??/*")
        return [path.name for path in found if is_sha256(path.name) and _older(path, moment)]

    def discard(self, sha256: str, moment: float) -> bool:
        """Remove a blob unless it was stored, or stored again, since `moment`; return whether it was removed.

        Hard links to it keep their bytes.
        """
        path = self.path(sha256)
        with self._lock(fcntl.LOCK_EX):
            if not _older(path, moment):
                return False
            path.unlink()
            return True

    def claim(self, installation_id: str) -> str:
        """Assign the store to this installation if it belongs to none, and return the one that it belongs to now."""
        if (owner := self.owner()) is not None:
            return owner
        self._write_owner(installation_id, anew=False)
        return self.owner() or installation_id

    def take_over(self, installation_id: str) -> None:
        """Assign the store to this installation, whichever it belonged to."""
        self._write_owner(installation_id, anew=True)

    def owner(self) -> str | None:
        """Return the installation that the store belongs to, if any."""
        return self._owner.read_text() if self._owner.exists() else None

    def _write_owner(self, installation_id: str, *, anew: bool) -> None:
        part = self._tmp / new_id(str(os.getpid()))
        with part.open("x") as file:
            file.write(installation_id)
            file.flush()
            os.fsync(file.fileno())
        with self._lock(fcntl.LOCK_EX):
            if anew or not self._owner.exists():
                part.replace(self._owner)
            else:
                part.unlink()
        _sync_folder(self.root)

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """Hold the lock between commits (shared) and removals (exclusive), so that no blob in use is removed."""
        descriptor = os.open(self._tmp, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


class BlobWriter:
    """A blob that is being written: call `write` as often as needed, then `commit` or `abort`.

    As a context manager it aborts on exit unless it was committed. Large pieces are hashed while they are written, and
    written bytes are synced to the disk in the background, so that little is left for `commit`.
    """

    def __init__(self, store: BlobStore, temporary: Path) -> None:
        self._store = store
        self._temporary = temporary
        with disk_full_errors():
            self._file = temporary.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._unchecked_bytes = self._unsynced_bytes = 0
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Write the next bytes; raises LowSpace if the disk runs low meanwhile."""
        self._unchecked_bytes += len(data)
        if self._unchecked_bytes >= _CHECK_SPACE_EVERY_BYTES:
            self._store.require_space()
            self._unchecked_bytes = 0
        self._begin_hashing(data)
        left = memoryview(data)
        with disk_full_errors():
            while left:
                left = left[self._file.write(left) :]
            self._begin_syncing(len(data))
        self.size_bytes += len(data)

    def _begin_hashing(self, data: bytes) -> None:
        self._finish_hashing()
        if len(data) < _HASHED_INLINE_BYTES:
            self._hash.update(data)
        else:
            self._hashing = _pool().submit(self._hash.update, data)

    def _finish_hashing(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def _begin_syncing(self, size_bytes: int) -> None:
        """Start a sync in the background unless one is running: if the disk is slow, the next one covers more bytes."""
        self._unsynced_bytes += size_bytes
        if self._unsynced_bytes < _SYNC_EVERY_BYTES:
            return
        if self._syncing is not None:
            if not self._syncing.done():
                return
            self._syncing.result()
        self._syncing = _pool().submit(os.fdatasync, self._file.fileno())
        self._unsynced_bytes = 0

    def commit(self) -> Blob:
        """Make the blob visible, so that it survives a loss of power once this returns."""
        with disk_full_errors():
            return self._commit()

    def _commit(self) -> Blob:
        self._finish_hashing()
        blob = Blob(self._hash.hexdigest(), self.size_bytes)
        if self._store.renew(*blob):
            self.abort()
            return blob
        if self._syncing is not None:
            self._syncing.result()  # the kernel reports a failed write once, to the first caller
        os.fchmod(self._file.fileno(), 0o444)
        os.fsync(self._file.fileno())
        self._file.close()
        self._store.take(self._temporary, blob.sha256)
        return blob

    def abort(self) -> None:
        """Discard the written bytes; does nothing after `commit`."""
        wait([future for future in (self._hashing, self._syncing) if future is not None])
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads that hash and sync all blobs that this process is writing."""
    return ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1), thread_name_prefix="blob")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has no threads


def has_stored(root: Path) -> bool:
    """Return whether a store on a local disk has ever had a blob, ignoring other files of the disk or the store."""
    return root.exists() and any(_FOLDER.fullmatch(path.name) for path in root.iterdir())


def is_sha256(name: str) -> bool:
    """Return whether this is a valid name of a blob."""
    return _SHA256.fullmatch(name) is not None


@contextmanager
def disk_full_errors() -> Iterator[None]:
    """Raise DiskFull for the system's errors about a full disk or a used-up quota."""
    try:
        yield
    except OSError as error:
        if is_full(error) and not isinstance(error, LowSpace):
            raise DiskFull(f"the disk is full: {error.strerror}") from error
        raise


def _older(path: Path, moment: float) -> bool:
    """Return whether the file was written before `moment` and still exists; other processes may remove it meanwhile."""
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:
        return False


def _make_folder(folder: Path, root: Path) -> None:
    """Create a folder below `root` whose name survives a loss of power."""
    if folder == root or folder.exists():
        return
    _make_folder(folder.parent, root)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
