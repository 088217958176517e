"""The worst instant to be stopped: a worker has seen that its lease holds, and has not yet written."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

from db.session import Database

_FOLDER = "CHAOS_STALLS"


def listen() -> None:
    """Have this process, and those that it forks, stop at that instant when they are asked to."""
    folder = Path(os.environ[_FOLDER])
    write: Any = Database.write

    def stall_and_write(database: Database) -> Any:
        asked = folder / f"stall-{os.getpid()}"
        if threading.current_thread() is threading.main_thread() and asked.exists():
            asked.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return write(database)

    Database.write = stall_and_write


def ask(folder: Path, pid: int) -> None:
    """Ask a worker's process to stop itself before its next write about a job."""
    (folder / f"stall-{pid}").touch()


def forget(folder: Path, pid: int) -> None:
    """The process may not have written meanwhile: it is to stop no more."""
    (folder / f"stall-{pid}").unlink(missing_ok=True)


def environment(folder: Path) -> dict[str, str]:
    return {_FOLDER: str(folder)}
