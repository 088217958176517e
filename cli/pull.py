"""Downloads: checked by sha256, resumed after an interruption, and visible only when complete."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import httpx

from cli.client import Client, refusal, unreachable
from cli.errors import CommandError
from cli.output import say, size

_CHUNK_BYTES = 1 << 20
_TRIES = 5


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def pull_files(client: Client, address: str, entries: list[dict[str, Any]], folder: Path) -> int:
    """Download the files of an artifact into a folder, keep those already there, and return the bytes downloaded."""
    named = [(inside(folder, entry["path"]), entry) for entry in entries]
    wanted = [(target, entry) for target, entry in named if not _is_there(target, entry["sha256"])]
    require_room(folder, sum(missing_bytes(target, entry["size_bytes"]) for target, entry in wanted))
    for target, entry in wanted:
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(client, f"{address}/files/{entry['path']}", target, entry["size_bytes"], entry["sha256"])
        say(f"  {entry['path']}  {size(entry['size_bytes'])}  sha256 {entry['sha256'][:12]} ok")
    return sum(entry["size_bytes"] for _, entry in wanted)


def _is_there(target: Path, sha256: str) -> bool:
    return target.exists() and sha256_of(target) == sha256


def missing_bytes(target: Path, size_bytes: int) -> int:
    """Return the bytes still to be downloaded; negative where a longer partial file will be discarded first."""
    part = _part_of(target)
    return size_bytes - part.stat().st_size if part.exists() else size_bytes


def require_room(folder: Path, wanted_bytes: int) -> None:
    """Check the free space of a folder's disk.

    Raises:
        CommandError: it is less than `wanted_bytes`.
    """
    left = shutil.disk_usage(folder).free
    if left < wanted_bytes:
        raise CommandError(f"{folder} needs {size(wanted_bytes)}; {size(left)} are free there.")


def here(name: str) -> Path:
    """Return ./NAME, which may be a link to another folder.

    Raises:
        CommandError: the name is not that of a folder.
    """
    if name in {"", ".", ".."} or Path(name).name != name:
        message = f"The artifact's name {name!r} cannot be used as a folder here."
        raise CommandError(message, mend="Name one with -o.")
    return Path(name)


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder.

    Raises:
        CommandError: the name leads out of the folder.
    """
    target = (folder / name).resolve()
    if folder.resolve() not in target.parents:
        raise CommandError(f"The service names a file {name!r}, which leads out of {folder}.")
    return target


def fetch(client: Client, address: str, target: Path, size_bytes: int, sha256: str) -> None:
    """Download one file to a temporary name, check it, then rename it."""
    part = _part_of(target)
    for _ in range(_TRIES):
        have = part.stat().st_size if part.exists() else 0
        if have > size_bytes:
            part.unlink()
            have = 0
        if have == size_bytes and part.exists():
            break
        cut = _append(client, address, part, have)
        if cut is None:
            break
    else:
        raise unreachable(client.url, RuntimeError(f"the download of {target.name} was cut {_TRIES} times"))
    found = sha256_of(part)
    if found != sha256:
        part.unlink()
        raise CommandError(f"{target.name}: sha256 is {found}, not {sha256}. The download has been removed; try again.")
    part.replace(target)


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _append(client: Client, address: str, part: Path, have: int) -> Exception | None:
    """Download from byte `have` on; return the error that interrupted the transfer, or None if it is complete.

    Raises:
        CommandError: the service refused, or the file cannot be written.
    """
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with client.http.stream("GET", address, headers=headers) as response:
            if not response.is_success:
                response.read()
                raise refusal(response)
            # A server without support for ranges answers 200 with the whole file.
            mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
            with part.open(mode) as target:
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    target.write(chunk)
    except httpx.TransportError as error:
        return error
    except OSError as error:
        message = f"{part} cannot be written ({error.strerror})."
        raise CommandError(message, mend="The part already there is kept: the same command resumes from it.") from error
    return None
