"""Where things are: the service's folder, its address and the key, each from the environment or from `up`."""

import json
import os
from pathlib import Path
from typing import Any

from cli.errors import CommandError, Exit

DEFAULT_PORT = 8642
PACKAGES_DIR = Path(__file__).resolve().parent.parent
"""The folder that `api`, `workers` and the others are imported from; `examples/` lies beside them in a clone."""


def home_dir() -> Path:
    """TRAINYARD_HOME: everything the service keeps."""
    return Path(os.environ.get("TRAINYARD_HOME") or "~/.local/share/trainyard").expanduser().absolute()


def key_path() -> Path:
    """TRAINYARD_CONFIG: the file that holds the API key, mode 0600."""
    return Path(os.environ.get("TRAINYARD_CONFIG") or "~/.config/trainyard/credentials").expanduser().absolute()


def service_state(home: Path) -> dict[str, Any] | None:
    """What the supervisor last wrote about itself; None where none ever ran."""
    path = home / "up.json"
    return json.loads(path.read_text()) if path.exists() else None


def service_url() -> str:
    """TRAINYARD_URL, else the address of the service that runs from this home, else the default port."""
    given = os.environ.get("TRAINYARD_URL")
    if given:
        return given.rstrip("/").removesuffix("/v1")
    state = service_state(home_dir())
    if state is not None:
        return str(state["url"])
    return f"http://127.0.0.1:{os.environ.get('TRAINYARD_PORT') or DEFAULT_PORT}"


def api_key() -> str:
    """TRAINYARD_API_KEY, else the key file."""
    given = os.environ.get("TRAINYARD_API_KEY")
    if given:
        return given
    path = key_path()
    if not path.exists():
        raise CommandError(
            f"No API key: {path} does not exist and TRAINYARD_API_KEY is not set.",
            Exit.AUTH,
            "`trainyard up` starts the service here and writes a key.",
        )
    return path.read_text().strip()
