"""The version of the code that makes this worker's artifacts, which their lineage records."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

_ENGINE = Path(__file__).resolve().parent.parent / "engine"
_SOURCES = frozenset({".py", ".cpp", ".h"})


@cache
def code_version() -> dict[str, str]:
    """Return the release, and a digest of the engine's sources, which differs in a modified checkout.

    The digest is the sha256 of the lines `<sha256>  <path>`, sorted by path, as for artifacts.
    """
    paths = sorted(path for path in _ENGINE.rglob("*") if path.suffix in _SOURCES)
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(_ENGINE).as_posix()}\n" for path in paths
    )
    return {"trainyard": version("trainyard"), "engine": hashlib.sha256("".join(lines).encode()).hexdigest()}
