"""What a loss of power would take: bytes and names that no fsync has made durable.

Every part of the service keeps a record of what it has synced. After a power cut, what the record
does not have is taken from the blob store: a file whose bytes were not synced is cut short, one
whose name was not (nobody synced a folder on its path since it got there) is gone. A disk may do
worse to what was not synced, and nothing to what was.
"""

import os
import stat
from pathlib import Path

_FILE = "CHAOS_SYNCED"
_sync = os.fsync


def environment(folder: Path) -> dict[str, str]:
    return {_FILE: str(folder / "synced")}


def keep_record() -> None:
    """Have every os.fsync of this process, and of those that it forks, written down."""
    record = os.open(os.environ[_FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        names = _names_in(descriptor) if stat.S_ISDIR(status.st_mode) else []  # before: what comes later is not synced
        _sync(descriptor)
        os.write(record, "".join(f"{line}\n" for line in [status.st_ino, *names]).encode())

    os.fsync = fsync


def end_record() -> None:
    """For a fork that stores no blobs."""
    os.fsync = _sync


def cut_power(folder: Path, root: Path) -> int:
    """Take from the blobs below `root` what was not durable, once no process is left; how many that were."""
    record = folder / "synced"
    durable = set(record.read_text().splitlines()) if record.exists() else set()
    lost = 0
    for path in root.glob("??/??/*"):
        if not {str(path), str(path.parent), str(path.parent.parent)} <= durable:
            path.unlink()
        elif str(path.stat().st_ino) not in durable:
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            os.truncate(path, path.stat().st_size // 2)
        else:
            continue
        lost += 1
    return lost


def _names_in(descriptor: int) -> list[str]:
    folder = Path(f"/proc/self/fd/{descriptor}").readlink()
    return [str(folder / name) for name in os.listdir(descriptor)]
