"""Upload of a data file."""

from pathlib import Path
from typing import Any

from cli.client import Client


def upload_file(client: Client, path: Path, purpose: str) -> dict[str, Any]:
    """Upload a file that has been checked, streamed from disk, and return the API's object."""
    with path.open("rb") as content:
        part = {"file": (path.name, content, "application/octet-stream")}
        return client.ask("POST", "files", data={"purpose": purpose}, files=part, timeout=None)
