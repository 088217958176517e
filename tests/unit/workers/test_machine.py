"""What a worker says of the device that its jobs run on."""

from pathlib import Path

import pytest

from workers import machine


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with programs; there are none yet."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def told_of(tools: Path, *rows: str) -> machine.Device:
    """The device by a driver that tells of these GPUs."""
    smi = tools / "nvidia-smi"
    smi.write_text("\n".join(["#!/bin/sh", *(f"echo '{row}'" for row in rows)]))
    smi.chmod(0o755)
    return machine.device()


def test_the_memory_of_all_gpus_is_told(tools: Path) -> None:
    assert told_of(tools, "NVIDIA H200, 143771", "NVIDIA H200, 143771") == (
        "2 x NVIDIA H200",
        287542 * 2**20,
        "cuda",
        2,
    )


@pytest.mark.parametrize("memory", ["[N/A]", "[Not Supported]", "N/A", ""])
@pytest.mark.parametrize("gpus", [1, 2])
def test_gpus_that_have_no_memory_of_their_own_share_the_machines(tools: Path, memory: str, gpus: int) -> None:
    of_the_machine = machine.device().memory_bytes
    found = told_of(tools, *[f"NVIDIA GB10, {memory}"] * gpus)
    assert (found.kind, found.gpus, found.memory_bytes) == ("cuda", gpus, of_the_machine // gpus * gpus)
