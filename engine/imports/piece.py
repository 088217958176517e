"""A range of bytes in an open file: the whole file, or a member of an archive."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_CHUNK_BYTES = 1 << 20


class Piece(NamedTuple):
    """`size_bytes` bytes of `file` from `start` on. It is read in place and never held in memory whole."""

    file: BinaryIO
    start: int
    size_bytes: int

    def read(self, at: int, size_bytes: int) -> bytes:
        """Return up to `size_bytes` bytes from `at` on, fewer at the end of the piece."""
        self.file.seek(self.start + at)
        return self.file.read(max(0, min(size_bytes, self.size_bytes - at)))

    def chunks(self) -> Iterator[bytes]:
        for at in range(0, self.size_bytes, _CHUNK_BYTES):
            yield self.read(at, _CHUNK_BYTES)
