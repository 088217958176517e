"""Modules of the engine in their own process, started from any folder."""

from pathlib import Path

import pytest

from cli.engine import made_by
from tests import runs


def test_an_engine_in_the_users_folder_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engine.py").write_text("raise SystemExit('not ours')")
    runs.save_base(tmp_path / "model", "llama")
    monkeypatch.chdir(tmp_path)
    assert made_by("engine.gguf", Path("model"), "--check") == {}
