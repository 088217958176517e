"""The service's folder: its lock (one `up` a folder), and what the supervisor says of itself."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.errors import CommandError

_LOG_BYTES = 16 << 20
"""A log that has grown over this is set aside as NAME.1 at the next start."""


def prepare(home: Path, key_file: Path) -> None:
    """Make the folder and its parts.

    Raises:
        CommandError: the folder has been in use, and its database or its secret is empty or gone.
    """
    secret, database = home / "secret", home / "trainyard.db"
    inside, beside = _marks(home, key_file)
    used = [mark for mark in (inside, beside) if mark.exists() and (mark == inside or mark.read_text() == str(home))]
    kept = {database: "TRAINYARD_DATABASE_URL", secret: "TRAINYARD_SECRET"}
    missing = [path for path, elsewhere in kept.items() if not _has_bytes(path) and not os.environ.get(elsewhere)]
    if used and missing:
        raise CommandError(
            f"{home} has been in use, but {missing[0].name} is empty or not there.",
            mend=f"Is a disk not mounted, or {kept[missing[0]]} not set? If it is to start anew, remove "
            f"{' and '.join(map(str, used))}.",
        )
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for part in ("logs", "valkey", "runs", "blobs"):
        (home / part).mkdir(exist_ok=True, mode=0o700)


def _has_bytes(path: Path) -> bool:
    """What only looked for a database has left an empty file where one was to be."""
    return path.exists() and path.stat().st_size > 0


def mark_initialised(home: Path, key_file: Path) -> None:
    """Note that a database has been made here: from now on an empty folder is a fault."""
    inside, beside = _marks(home, key_file)
    inside.touch(mode=0o600)
    if not key_file.is_relative_to(home):
        write_private(beside, str(home))


def _marks(home: Path, key_file: Path) -> tuple[Path, Path]:
    """Where it is noted that a home has been in use: in it, and beside its key, which lies on another disk, maybe."""
    return home / "initialised", key_file.with_name(key_file.name + ".home")


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, complete or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())
    part.replace(path)


def write_state(home: Path, state: dict[str, Any]) -> None:
    write_private(home / "up.json", json.dumps(state, indent=1))


def remove_state(home: Path) -> None:
    (home / "up.json").unlink(missing_ok=True)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go of it when the process ends, however.

    Raises:
        CommandError: another `up` holds it.
    """
    with (home / "up.pid").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"The service already runs from {home} (pid {supervisor_pid(home)}).",
                mend="`trainyard status` shows it, `trainyard down` stops it.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def supervisor_pid(home: Path) -> int | None:
    """The process that holds the folder, or None. A number left by a killed one does not count."""
    path = home / "up.pid"
    if not path.exists():
        return None
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0)
    return None


def open_log(home: Path, name: str) -> int:
    """A file descriptor that appends to logs/NAME.log."""
    path = home / "logs" / f"{name}.log"
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def log_tail(home: Path, name: str, lines: int = 15) -> str:
    """The end of a log, for a message about why a process died."""
    path = home / "logs" / f"{name}.log"
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace")[-8000:].splitlines()[-lines:])
