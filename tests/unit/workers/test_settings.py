"""What the operator chooses for workers, and what of it an engine is told."""

import pytest

from workers import process
from workers.settings import WorkerSettings


@pytest.mark.parametrize(("given", "told"), [("", str(16 * 2**30)), ("1048576.0", "1048576"), ("7", "7")])
def test_an_engine_keeps_as_many_bytes_as_its_worker_has_read(
    given: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_CACHE_BYTES", given)
    assert process.environment()["TRAINYARD_CACHE_BYTES"] == told


def test_an_engine_is_told_no_other_setting_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_SECRET", "of the keys")
    named = {name for name in process.environment() if name.startswith("TRAINYARD_")}
    assert named == {"TRAINYARD_CACHE_BYTES", "TRAINYARD_PARENT_PID"}


def test_an_engine_counts_gpus_as_their_driver_does_unless_it_is_to_do_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert process.environment()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert process.environment()["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def test_jobs_of_lower_priority_can_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_PREEMPT_AFTER_S", "none")
    assert WorkerSettings().preempt_after_s is None
