"""The blob store: files under the sha256 of their bytes, there whole or not at all."""

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
_BESIDE_BYTES = 64 << 10
"""Hashing less than this takes no longer than handing it to a thread."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
# The target is on another device, its filesystem has no hard links, or the blob has as many as it may.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})


class Blob(NamedTuple):
    """The name and size of a stored blob."""

    sha256: str
    size_bytes: int


class BlobStore:
    """Blobs on a local disk, in `root/ab/cd/abcd...`, read-only; db.bucket has the same in a bucket.

    A blob is written to `root/tmp`, synced, renamed and its folder synced, so whatever is visible
    under a hash has the bytes of that hash, also after kill -9 or a loss of power. A blob that is
    there is not written again. Nothing is taken in while less than `low_space_bytes` are free: LowSpace.
    0 keeps no reserve: then the disk itself says when it is full, which is told as LowSpace too.
    """

    has_files = True
    """Each blob is a file, so that opening it costs nothing."""

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
        """A blob to be written piece by piece."""
        self.require_space()
        return BlobWriter(self, self._tmp / new_id(str(os.getpid())))

    def path(self, sha256: str) -> Path:
        """Where the blob is, or would be. Raises ValueError for anything that is not a lower-case sha256."""
        if not is_sha256(sha256):
            raise ValueError(f"{sha256!r} is not a sha256: 64 digits of 0-9a-f are expected")
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def exists(self, sha256: str) -> bool:
        """Whether the blob is stored."""
        return self.path(sha256).exists()

    def open(self, sha256: str) -> BinaryIO:
        """The blob, for reading. Raises FileNotFoundError when it is not stored."""
        return self.path(sha256).open("rb")

    def chunks(self, sha256: str, span: range) -> Iterator[bytes]:
        """These bytes of the blob, at most 1 MiB at a time.

        Raises:
            FileNotFoundError: the blob is not stored.
            OSError: it ends early.
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
        """Make the blob appear as the file `target`: a hard link, or a copy where none is possible.

        Raises:
            FileNotFoundError: the blob is not stored.
            BlobsUnavailable: nothing is stored here, and that cannot be so: its disk is not there.
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

    def renew(self, sha256: str) -> bool:
        """Whether the blob is there already; if so it is as if it were stored now, and survives a loss of power."""
        target = self.path(sha256)
        with self._turn(fcntl.LOCK_SH):
            if not target.exists():
                return False
            os.utime(target)
            _sync_folder(target.parent)  # who stored it may have been killed before that
            return True

    def take(self, temporary: Path, sha256: str) -> None:
        """Make a synced file in `tmp` the blob; on return that survives a loss of power."""
        target = self.path(sha256)
        _make_folder(target.parent, self.root)
        os.utime(temporary)
        temporary.rename(target)
        _sync_folder(target.parent)

    def writable(self) -> bool:
        """Whether blobs can be stored, so far as that shows without storing one."""
        return os.access(self.root, os.W_OK)

    def free_bytes(self) -> int:
        """What may still be written to the disk."""
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize

    def require_space(self) -> None:
        """Raise LowSpace when the disk is below the reserve."""
        free = self.free_bytes()
        if free < self.low_space_bytes:
            raise LowSpace(free, self.low_space_bytes)

    def discard_stale(self, older_than_s: float, now: float) -> int:
        """Remove what killed writers left in `tmp`; gives the number of files."""
        stale = [path for path in self._tmp.iterdir() if _older(path, now - older_than_s)]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def unused_since(self, folder: str, moment: float) -> list[str]:
        """The blobs below `root/folder` (two hexadecimal digits) that nobody has stored since then."""
        found = (self.root / folder).glob("??/*")
        return [path.name for path in found if is_sha256(path.name) and _older(path, moment)]

    def discard(self, sha256: str, moment: float) -> bool:
        """Remove a blob, unless it was stored, or stored again, since `moment`; whether it is gone now.

        Hard links that were made to it keep their bytes.
        """
        path = self.path(sha256)
        with self._turn(fcntl.LOCK_EX):
            if not _older(path, moment):
                return False
            path.unlink()
            return True

    def claim(self, installation_id: str) -> str:
        """Have the store belong to this installation, if it belongs to none yet; the one that it belongs to now."""
        if (owner := self.owner()) is not None:
            return owner
        self._write_owner(installation_id, anew=False)
        return self.owner() or installation_id

    def take_over(self, installation_id: str) -> None:
        """Have the store belong to this installation, whosever it was."""
        self._write_owner(installation_id, anew=True)

    def owner(self) -> str | None:
        """The installation that the store belongs to, if it belongs to any."""
        return self._owner.read_text() if self._owner.exists() else None

    def _write_owner(self, installation_id: str, *, anew: bool) -> None:
        part = self._tmp / new_id(str(os.getpid()))
        with part.open("x") as file:
            file.write(installation_id)
            file.flush()
            os.fsync(file.fileno())
        with self._turn(fcntl.LOCK_EX):
            if anew or not self._owner.exists():
                part.replace(self._owner)
            else:
                part.unlink()
        _sync_folder(self.root)

    @contextmanager
    def _turn(self, kind: int) -> Iterator[None]:
        """Keeps a blob from being removed just as it is found to be there already: many commit, or one removes."""
        descriptor = os.open(self._tmp, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


class BlobWriter:
    """One blob on its way in: `write` as often as needed, then `commit`, else `abort`.

    As a context manager it aborts on the way out unless it was committed. Large pieces are hashed beside being
    written, and what was written goes to the disk meanwhile, so that little is left for the end.
    """

    def __init__(self, store: BlobStore, temporary: Path) -> None:
        self._store = store
        self._temporary = temporary
        with _full_disk_told():
            self._file = temporary.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._unchecked_bytes = self._unsynced_bytes = 0
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes; raises LowSpace when the disk runs low meanwhile."""
        self._unchecked_bytes += len(data)
        if self._unchecked_bytes >= _CHECK_SPACE_EVERY_BYTES:
            self._store.require_space()
            self._unchecked_bytes = 0
        self._begin_hashing(data)
        left = memoryview(data)
        with _full_disk_told():
            while left:
                left = left[self._file.write(left) :]
            self._begin_syncing(len(data))
        self.size_bytes += len(data)

    def _begin_hashing(self, data: bytes) -> None:
        self._finish_hashing()
        if len(data) < _BESIDE_BYTES:
            self._hash.update(data)
        else:
            self._hashing = _beside().submit(self._hash.update, data)

    def _finish_hashing(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def _begin_syncing(self, size_bytes: int) -> None:
        """One at a time; a disk that is slower than the bytes come is left behind."""
        self._unsynced_bytes += size_bytes
        if self._unsynced_bytes < _SYNC_EVERY_BYTES:
            return
        if self._syncing is not None:
            if not self._syncing.done():
                return
            self._syncing.result()
        self._syncing = _beside().submit(os.fdatasync, self._file.fileno())
        self._unsynced_bytes = 0

    def commit(self) -> Blob:
        """Make the blob visible; on return it survives a loss of power."""
        with _full_disk_told():
            return self._commit()

    def _commit(self) -> Blob:
        self._finish_hashing()
        blob = Blob(self._hash.hexdigest(), self.size_bytes)
        if self._store.renew(blob.sha256):
            self.abort()
            return blob
        if self._syncing is not None:
            self._syncing.result()  # what a disk could not take is told once, and to whoever asks first
        os.fchmod(self._file.fileno(), 0o444)
        os.fsync(self._file.fileno())
        self._file.close()
        self._store.take(self._temporary, blob.sha256)
        return blob

    def abort(self) -> None:
        """Drop what was written; does nothing after `commit`."""
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
def _beside() -> ThreadPoolExecutor:
    """Hashes and syncs for all blobs of the process that are on their way in, however many those are."""
    return ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1), thread_name_prefix="blob")


os.register_at_fork(after_in_child=_beside.cache_clear)  # threads stay with the parent


def has_stored(root: Path) -> bool:
    """Whether a store on a local disk has ever had a blob: what a disk or a store has besides tells nothing of that."""
    return root.exists() and any(_FOLDER.fullmatch(path.name) for path in root.iterdir())


def is_sha256(name: str) -> bool:
    """Whether this can be the name of a blob."""
    return _SHA256.fullmatch(name) is not None


@contextmanager
def _full_disk_told() -> Iterator[None]:
    """LowSpace from whatever the system says when the disk or the quota is used up."""
    try:
        yield
    except OSError as error:
        if is_full(error) and not isinstance(error, LowSpace):
            raise DiskFull(f"the disk is full: {error.strerror}") from error
        raise


def _older(path: Path, moment: float) -> bool:
    """Whether the file was written before `moment` and is still there: others store and remove meanwhile."""
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:
        return False


def _make_folder(folder: Path, root: Path) -> None:
    """Create a folder below `root` so that its name survives a loss of power."""
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
