"""Locations: the service's folder, address and key, each from the environment or from what `up` wrote."""

import json
import os
from pathlib import Path
from typing import Any

from cli.errors import CommandError, Exit

DEFAULT_PORT = 8642
PACKAGES_DIR = Path(__file__).resolve().parent.parent
"""The folder that `api`, `workers` and the others are imported from; in a clone it also holds `examples/`."""


def home_dir() -> Path:
    """Return TRAINYARD_HOME, the folder of everything that the service keeps."""
    given = os.environ.get("TRAINYARD_HOME")
    return Path(given).expanduser().absolute() if given else _default_home()


def key_path() -> Path:
    """Return TRAINYARD_CONFIG, the file of the API key, mode 0600.

    Each home has its own file, so that two services on one machine do not overwrite each other's key.
    """
    given = os.environ.get("TRAINYARD_CONFIG")
    if not given:
        given = "~/.config/trainyard/credentials" if home_dir() == _default_home() else home_dir() / "credentials"
    return Path(given).expanduser().absolute()


def _default_home() -> Path:
    return Path("~/.local/share/trainyard").expanduser().absolute()


def service_state(home: Path) -> dict[str, Any] | None:
    """Return the state that the supervisor last wrote; None if there is none."""
    path = home / "up.json"
    return json.loads(path.read_text()) if path.exists() else None


def service_url() -> str:
    """Return TRAINYARD_URL, or the address of the service of this home, or the default port on loopback."""
    given = os.environ.get("TRAINYARD_URL")
    if given:
        return given.rstrip("/").removesuffix("/v1")
    state = service_state(home_dir())
    if state is not None:
        return str(state["url"])
    return f"http://127.0.0.1:{os.environ.get('TRAINYARD_PORT') or DEFAULT_PORT}"


def api_key() -> str:
    """Return TRAINYARD_API_KEY, or the key in the key file.

    Raises:
        CommandError: there is no key, or it cannot be read or sent in a header.
    """
    given = os.environ.get("TRAINYARD_API_KEY")
    if given:
        return _checked(given, "TRAINYARD_API_KEY")
    path = key_path()
    if not path.exists():
        raise CommandError(
            f"No API key: {path} does not exist and TRAINYARD_API_KEY is not set.",
            Exit.AUTH,
            "`trainyard up` starts the service here and writes a key.",
        )
    try:
        return _checked(path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as an API key: {error}", Exit.AUTH) from error


def _checked(key: str, source: str) -> str:
    """Return the key if it can be sent in a header.

    Raises:
        CommandError: it cannot.
    """
    if not key or not all("!" <= character <= "~" for character in key):
        raise CommandError(
            f"{source} holds no API key: a key is `ty-` followed by 43 letters, digits, - and _.",
            Exit.AUTH,
            "`trainyard up` writes one; `python -m api.keys create` makes more.",
        )
    return key
