"""A cache on a disk that is really full: nothing is kept, it is logged once, and the job makes what it needs anew."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.disks import small_disk


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of which every page is taken."""
    with small_disk(tmp_path / "disk", 64 << 10) as folder:
        (folder / "cache").mkdir()
        with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield folder / "cache"


def losses(root: Path, cache: Path | None) -> dict[int, float]:
    if cache is not None:
        (root / "cache").symlink_to(cache)
    assert runs.carry_out(root) == 0
    return runs.losses(root)


def warnings(root: Path) -> list[str]:
    return [event["message"] for event in runs.events(root, "log") if event["code"] == "cache_full"]


def in_windows(root: Path) -> Path:
    """Blocks that are tokenized one after the other, in the midst of the run too."""
    runs.sft_run(root, 400, runs.sft_spec(max_steps=20))
    return root


KINDS: dict[str, Any] = {"sft": in_windows, "dpo": runs.dpo_run}


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_under_the_cache_is_logged_once_and_the_run_is_the_same(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("engine.data.source.BLOCK_BYTES", 2000)
    monkeypatch.setattr("engine.data.training.WINDOW_BLOCKS", 2)
    monkeypatch.setattr("engine.reference._KEEP_EVERY_S", 0.0)
    assert losses(KINDS[kind](tmp_path / "full"), full) == losses(KINDS[kind](tmp_path / "roomy"), None)
    (message,) = warnings(tmp_path / "full")
    assert "No space left on device" in message
    assert not warnings(tmp_path / "roomy")
    assert not [path for path in full.rglob("*") if path.is_file()], "no half of a file is left"


def test_a_disk_that_fills_up_in_the_midst_of_a_run_is_logged(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.source.BLOCK_BYTES", 2000)
    monkeypatch.setattr("engine.data.training.WINDOW_BLOCKS", 2)
    os.truncate(full.parent / "filler", 40 << 10)
    root = in_windows(tmp_path / "run")
    losses(root, full)
    codes = [event.get("code", event["type"]) for event in runs.events(root)]
    assert codes.index("started") < codes.index("cache_full")
    assert codes.count("cache_full") == 1
    assert list(full.rglob("*.npz")), "what was written while there was room is kept"
