"""Files that only their owner may read, written atomically."""

import os
import tempfile
from pathlib import Path


def write_private(path: Path, text: str, *, keep: bool = False) -> None:
    """Write a file with mode 0600; a kill at any moment leaves the old file or the new one.

    With `keep`, a file that already exists stays, even one that another process makes at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if keep:
            _link(part, path)
        else:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _link(part: Path, path: Path) -> None:
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return
