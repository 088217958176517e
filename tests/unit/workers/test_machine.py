"""What a worker says of the device that its jobs run on."""

from pathlib import Path

import pytest

from workers import machine


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with programs; there are none yet."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def told_of(tools: Path, *rows: str) -> machine.Device:
    """The device by a driver that tells of these GPUs, as GPU-a0, GPU-b1 and so on."""
    smi = tools / "nvidia-smi"
    told = [f"{index}, GPU-{'abcd'[index]}{index}, {row}" for index, row in enumerate(rows)]
    smi.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}'" for line in told)]))
    smi.chmod(0o755)
    return machine.device()


def test_the_memory_of_all_gpus_is_told(tools: Path) -> None:
    assert told_of(tools, "NVIDIA H200, 143771", "NVIDIA H200, 143771") == (
        "2 x NVIDIA H200",
        287542 * 2**20,
        "cuda",
        2,
    )


def test_lines_of_the_driver_that_are_no_rows_are_skipped(tools: Path) -> None:
    smi = tools / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'WARNING: infoROM is corrupted, see the log'\necho\necho '0, GPU-a0, H200, 141000'\n"
    )
    smi.chmod(0o755)
    assert machine.device() == ("H200", 141_000 * 2**20, "cuda", 1)


@pytest.mark.parametrize("memory", ["[N/A]", "[Not Supported]", "N/A", ""])
@pytest.mark.parametrize("gpus", [1, 2])
def test_gpus_that_have_no_memory_of_their_own_share_the_machines(tools: Path, memory: str, gpus: int) -> None:
    of_the_machine = machine.device().memory_bytes
    found = told_of(tools, *[f"NVIDIA GB10, {memory}"] * gpus)
    assert (found.kind, found.gpus, found.memory_bytes) == ("cuda", gpus, of_the_machine // gpus * gpus)


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["H200"]),
        (" 2 , 0 ", ["L4", "A100, 40 GB"]),
        ("GPU-b1,GPU-c", ["H200", "L4"]),
        ("0,7,1", ["A100, 40 GB"]),  # what stands behind one that is not there is hidden too
        ("-1", []),
        ("", []),
        ("MIG-6f0c0a4e", []),
    ],
)
def test_gpus_that_jobs_may_not_use_are_not_told(
    tools: Path, visible: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    memory_mib = {"A100, 40 GB": 40_000, "H200": 141_000, "L4": 24_000}
    found = told_of(tools, *(f"{name}, {mib}" for name, mib in memory_mib.items()))
    assert (found.kind, found.gpus) == (("cuda", len(names)) if names else ("cpu", 0))
    if names:
        assert found.memory_bytes == sum(memory_mib[name] for name in names) * 2**20
        assert found.name.endswith(names[0])


def test_a_gpu_that_shares_the_machines_memory_leaves_the_hidden_ones_their_part(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_machine = machine.device().memory_bytes
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert told_of(tools, *["NVIDIA GB10, [N/A]"] * 2).memory_bytes == of_the_machine // 2
