"""The tail of a growing file: each line is returned once, when it is complete."""

from collections.abc import Iterator
from pathlib import Path

_MAX_LINE_BYTES = 8 << 20


class Tail:
    """Continues from where it stopped. A last line without its newline is left for a later call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> Iterator[bytes]:
        """The complete lines since the last call, without their newlines; none while there is no file.

        Raises:
            ValueError: a line is too long.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while (line := file.readline(_MAX_LINE_BYTES)).endswith(b"\n"):
                self._offset += len(line)
                yield line[:-1]
            if len(line) == _MAX_LINE_BYTES:
                raise ValueError(f"a line of {self._path.name} is over {_MAX_LINE_BYTES} bytes long")
