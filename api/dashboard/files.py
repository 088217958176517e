"""The files of the built dashboard, read and compressed once."""

import gzip
import hashlib
import mimetypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

_HASHED = "assets/"
"""The folder in which Vite puts a hash into each file's name, so that browsers may cache it forever."""
_TEXT = (".css", ".html", ".js", ".svg", ".webmanifest")


class PageFile(NamedTuple):
    """A file of the dashboard. `packed` is its gzip, where that is smaller."""

    content: bytes
    packed: bytes | None
    media_type: str
    etag: str
    lasting: bool


@cache
def page_files(folder: Path) -> dict[str, PageFile]:
    """Return the files by their paths below the folder; empty when nothing has been built there.

    Requests are looked up in this table, so that no path leads out of the folder.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            found[name] = _read(path, lasting=name.startswith(_HASHED))
    return found


def _read(path: Path, *, lasting: bool) -> PageFile:
    content = path.read_bytes()
    packed = gzip.compress(content, 9, mtime=0) if path.suffix in _TEXT else None
    return PageFile(
        content,
        packed if packed is not None and len(packed) < len(content) else None,
        mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        f'"{hashlib.sha256(content).hexdigest()}"',
        lasting,
    )
