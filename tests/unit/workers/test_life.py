"""What a worker process opens."""

from pathlib import Path

from workers import life
from workers.settings import WorkerSettings


def test_a_run_may_store_what_it_makes_where_uploads_are_refused(tmp_path: Path) -> None:
    slot = life.open_slot(WorkerSettings(home=tmp_path, low_space_bytes=1 << 62), 0)
    made = tmp_path / "model.safetensors"
    made.write_bytes(b"weights")
    assert slot.blobs.put_file(made).size_bytes == len(b"weights")
