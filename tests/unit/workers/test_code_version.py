"""The digest of the engine's sources that lineage records."""

from pathlib import Path

import pytest

from workers import code_version

ENGINE = Path(__file__).parents[3] / "engine"


def test_every_kind_of_source_in_the_engine_is_counted() -> None:
    files = [path for path in ENGINE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.suffix for path in files} - {".md"} == set(code_version._SOURCES)


@pytest.mark.parametrize("name", ["loop.py", "kernels.cpp", "numbers.h"])
def test_a_changed_source_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(code_version, "_ENGINE", tmp_path)
    digests = set()
    for text in ("one", "another"):
        (tmp_path / name).write_text(text)
        digests.add(code_version.code_version.__wrapped__()["engine"])
    assert len(digests) == 2
