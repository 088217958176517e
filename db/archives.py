"""Archives: several blobs as one uncompressed tar file, whose bytes are always the same."""

import tarfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from db.blobs import Blob, BlobStore

_BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """A file of an archive."""

    path: str
    sha256: str
    size_bytes: int


class Archive:
    """A tar file of the sorted members and a `SHA256SUMS` for `sha256sum -c`, generated while it is read."""

    def __init__(self, blobs: BlobStore, members: Sequence[Member]) -> None:
        members = sorted(members)
        sums = "".join(f"{member.sha256}  {member.path}\n" for member in members).encode()
        self._blobs = blobs
        self._entries = [(_header(member.path, member.size_bytes), member) for member in members]
        self._last = _header("SHA256SUMS", len(sums)) + sums + _padding(len(sums)) + bytes(2 * _BLOCK)

    @property
    def size_bytes(self) -> int:
        sizes = [len(header) + one.size_bytes + len(_padding(one.size_bytes)) for header, one in self._entries]
        return sum(sizes) + len(self._last)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the archive."""
        for header, member in self._entries:
            yield header
            yield from self._blobs.chunks(member.sha256, range(member.size_bytes))
            yield _padding(member.size_bytes)
        yield self._last

    def store(self) -> Blob:
        """Store the archive as a blob."""
        with self._blobs.writer() as writer:
            for chunk in self.chunks():
                writer.write(chunk)
            return writer.commit()


def _header(path: str, size_bytes: int) -> bytes:
    """Return a tar header without times, owners and all else that could differ between two calls."""
    entry = tarfile.TarInfo(path)
    entry.size = size_bytes
    entry.mode = 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK)
