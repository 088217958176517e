"""Which code makes the artifacts of this worker."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

_ENGINE = Path(__file__).resolve().parent.parent / "engine"


@cache
def code_version() -> dict[str, str]:
    """The release, and a digest over the engine's sources: a checkout that somebody changed says another one.

    It is the sha256 of the lines `<sha256>  <path>`, sorted by path, as artifacts' digests are.
    """
    paths = sorted(path for path in _ENGINE.rglob("*") if path.suffix in {".py", ".cpp"})
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(_ENGINE).as_posix()}\n" for path in paths
    )
    return {"trainyard": version("trainyard"), "engine": hashlib.sha256("".join(lines).encode()).hexdigest()}
