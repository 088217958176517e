"""What a worker process opens."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from workers import celery_signals
from workers.settings import WorkerSettings


def test_a_run_may_store_what_it_makes_where_uploads_are_refused(tmp_path: Path) -> None:
    slot = celery_signals.open_slot(WorkerSettings(home=tmp_path, low_space_bytes=1 << 62), 0)
    made = tmp_path / "model.safetensors"
    made.write_bytes(b"weights")
    assert slot.blobs.put_file(made).size_bytes == len(b"weights")


def test_no_worker_is_named_as_the_slot_of_another(tmp_path: Path) -> None:
    slot = celery_signals.open_slot(WorkerSettings(home=tmp_path, worker_name="gpu"), 1)
    with pytest.raises(ValidationError):
        WorkerSettings(home=tmp_path, worker_name=slot.name)
