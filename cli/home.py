"""The service's folder: its lock (one `up` per folder), and the state that the supervisor writes there."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cli.errors import CommandError

_LOG_BYTES = 16 << 20
"""A larger log is moved to NAME.log.1 at the next start."""
_LOCK_TRIES = 10
"""A reader holds the lock for a moment, which must not be mistaken for another `up`."""
_PID_TRIES = 50
"""The file is empty between a process taking the lock and writing its pid."""
_POLL_S = 0.02


def prepare(home: Path, key_file: Path) -> None:
    """Create the folder and its subfolders.

    Raises:
        CommandError: the folder has been in use, but its database or secret is empty or missing.
    """
    secret, database = home / "secret", home / "trainyard.db"
    inside, beside = _marks(home, key_file)
    used = [mark for mark in (inside, beside) if mark.exists() and (mark == inside or mark.read_text() == str(home))]
    kept = {database: "TRAINYARD_DATABASE_URL", secret: "TRAINYARD_SECRET"}
    missing = [path for path, elsewhere in kept.items() if not _has_bytes(path) and not os.environ.get(elsewhere)]
    if used and missing:
        raise CommandError(
            f"{home} has been in use, but {missing[0].name} is empty or missing.",
            mend=f"Is a disk not mounted, or {kept[missing[0]]} not set? To start from scratch, remove "
            f"{' and '.join(map(str, used))}.",
        )
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for part in ("logs", "valkey", "runs", "blobs"):
        (home / part).mkdir(exist_ok=True, mode=0o700)


def _has_bytes(path: Path) -> bool:
    """Whether a file holds something: opening a SQLite database that is missing leaves an empty file."""
    return path.exists() and path.stat().st_size > 0


def mark_initialised(home: Path, key_file: Path) -> None:
    """Record that a database has been made here: from now on an empty folder is an error."""
    inside, beside = _marks(home, key_file)
    inside.touch(mode=0o600)
    if not key_file.is_relative_to(home):
        write_private(beside, str(home))


def _marks(home: Path, key_file: Path) -> tuple[Path, Path]:
    """Return the two marks of a home that has been in use: inside it, and beside its key, which may be on another disk."""
    return home / "initialised", key_file.with_name(key_file.name + ".home")


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically."""
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
    """Lock the folder for this process; the kernel releases the lock however the process ends.

    Raises:
        CommandError: another `up` holds the lock.
    """
    with (home / "up.pid").open("a+") as lock:
        if not _exclusive(lock):
            raise CommandError(
                f"The service already runs from {home} (pid {supervisor_pid(home)}).",
                mend="`trainyard status` shows it, `trainyard down` stops it.",
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _exclusive(lock: TextIO) -> bool:
    """Take the lock, waiting a little for readers to release it; return whether that succeeded."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_S)
        else:
            return True
    return False


def supervisor_pid(home: Path) -> int | None:
    """Return the process that holds the lock, or None. The pid left by a killed process does not count.

    Raises:
        CommandError: a process holds the lock but does not write its pid.
    """
    path = home / "up.pid"
    if not path.exists():
        return None
    with path.open() as lock:
        for _ in range(_PID_TRIES):
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                if pid := lock.read():
                    return int(pid)
                time.sleep(_POLL_S)
            else:
                return None
    raise CommandError(f"A process holds {path} but has not written its pid.", mend="Try again.")


def open_log(home: Path, name: str) -> int:
    """Return a file descriptor that appends to logs/NAME.log."""
    path = home / "logs" / f"{name}.log"
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def log_tail(home: Path, name: str, lines: int = 15) -> str:
    """Return the end of a log, for a message about why a process died."""
    path = home / "logs" / f"{name}.log"
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace")[-8000:].splitlines()[-lines:])
