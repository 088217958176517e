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
    given = os.environ.get("TRAINYARD_HOME")
    return Path(given).expanduser().absolute() if given else _default_home()


def key_path() -> Path:
    """TRAINYARD_CONFIG: the file that holds the API key, mode 0600.

    Each home has a file of its own, so that two services on one machine do not take each other's key.
    """
    given = os.environ.get("TRAINYARD_CONFIG")
    if not given:
        given = "~/.config/trainyard/credentials" if home_dir() == _default_home() else home_dir() / "credentials"
    return Path(given).expanduser().absolute()


def _default_home() -> Path:
    return Path("~/.local/share/trainyard").expanduser().absolute()


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
        return _sound(given, "TRAINYARD_API_KEY")
    path = key_path()
    if not path.exists():
        raise CommandError(
            f"No API key: {path} does not exist and TRAINYARD_API_KEY is not set.",
            Exit.AUTH,
            "`trainyard up` starts the service here and writes a key.",
        )
    try:
        return _sound(path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as an API key: {error}", Exit.AUTH) from error


def _sound(key: str, source: str) -> str:
    """The key, if it can stand in a header.

    Raises:
        CommandError: it cannot.
    """
    if not key or not all("!" <= character <= "~" for character in key):
        raise CommandError(
            f"{source} holds no API key: a key is `ty-` and 43 letters, digits, - and _.",
            Exit.AUTH,
            "`trainyard up` writes one; `python -m api.keys create` makes more.",
        )
    return key
