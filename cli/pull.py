"""Downloads: checked by sha256, resumed where they were cut, visible only when complete."""

import hashlib
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
    """Bring every file of an artifact into a folder; files that are there with the right sum are kept.

    Returns the bytes that were fetched.
    """
    fetched = 0
    for entry in entries:
        target = inside(folder, entry["path"])
        if target.exists() and sha256_of(target) == entry["sha256"]:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(client, f"{address}/files/{entry['path']}", target, entry["size_bytes"], entry["sha256"])
        fetched += entry["size_bytes"]
        say(f"  {entry['path']}  {size(entry['size_bytes'])}  sha256 {entry['sha256'][:12]} ok")
    return fetched


def inside(folder: Path, name: str) -> Path:
    """The path of a file under a folder; a name that leads out of it is refused."""
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise CommandError(f"The service names a file {name!r}, which leads out of {folder}.")
    return target


def fetch(client: Client, address: str, target: Path, size_bytes: int, sha256: str) -> None:
    """Download one file beside its place, check it, then put it there by rename."""
    part = target.with_name(target.name + ".part")
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


def _append(client: Client, address: str, part: Path, have: int) -> Exception | None:
    """Fetch from byte `have` on; the error that cut the transfer, or None when it came to its end."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with client.http.stream("GET", address, headers=headers) as response:
            if response.is_error:
                response.read()
                raise refusal(response)
            # A server that does not know ranges answers 200 with the whole file.
            mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
            with part.open(mode) as target:
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    target.write(chunk)
    except httpx.TransportError as error:
        return error
    return None
