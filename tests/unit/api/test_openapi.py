"""The descriptions in the OpenAPI document."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from api.app import create_app
from api.settings import ApiSettings
from db.session import Database
from db.settings import StorageSettings

_FRAGMENT = re.compile(r"(Of|By|The same|As|What it)\b")
"""How a description begins that leaves its subject to the reader."""


def descriptions(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every description in the document, with the path to it."""
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            yield path, node["description"]
        for name, below in node.items():
            yield from descriptions(below, f"{path}/{name}")
    elif isinstance(node, list):
        for number, below in enumerate(node):
            yield from descriptions(below, f"{path}/{number}")


def test_every_description_has_a_subject(tmp_path: Path):
    settings, storage = ApiSettings(secret=SecretStr("of no service")), StorageSettings(home=tmp_path)
    app = create_app(settings, storage, Database(f"sqlite:///{tmp_path}/none.db"), "redis://127.0.0.1:1")
    found = dict(descriptions(app.openapi()))
    assert len(found) > 100
    assert {path: text for path, text in found.items() if _FRAGMENT.match(text)} == {}
