"""What nothing names any more leaves the disk."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from db import artifacts, files, installation, leases
from db.artifacts import FileEntry
from db.blobs import Blob, BlobStore
from db.models import File
from tests.integration.workers.workplace import Workplace
from workers import stage
from workers.blob_sweeper import UnnamedBlobs

_HOUR_S = 3600.0


def store(workplace: Workplace, data: bytes, *, age_s: float = 2 * _HOUR_S) -> Blob:
    with workplace.blobs.writer() as writer:
        writer.write(data)
        blob = writer.commit()
    stored_at = time.time() - age_s
    os.utime(workplace.blobs.path(blob.sha256), (stored_at, stored_at))
    return blob


def remove(workplace: Workplace, *, after_s: float = 0) -> int:
    """Once round the whole store, after that time."""
    return UnnamedBlobs(workplace.database, workplace.blobs, _HOUR_S).remove_some(time.time() + after_s, folders=256)


def add_file(workplace: Workplace, blob: Blob) -> File:
    with workplace.database.write() as s:
        return files.add(
            s, workplace.project_id, filename="rows", purpose="evals", size_bytes=blob.size_bytes,
            sha256=blob.sha256, format="chat", row_count=1,
        )  # fmt: skip


def delete_file(workplace: Workplace, file: File) -> None:
    with workplace.database.write() as s:
        assert files.delete(s, workplace.project_id, file.id)


def test_a_deleted_file_frees_its_bytes_after_an_hour(workplace: Workplace) -> None:
    blob = store(workplace, b"rows")
    file = add_file(workplace, blob)
    assert remove(workplace, after_s=_HOUR_S + 60) == 0
    delete_file(workplace, file)
    assert remove(workplace, after_s=_HOUR_S - 60) == 0
    assert workplace.blobs.exists(blob.sha256)
    assert remove(workplace, after_s=_HOUR_S + 60) == 1
    assert not workplace.blobs.exists(blob.sha256)


def test_bytes_that_another_file_has_too_are_kept(workplace: Workplace) -> None:
    blob = store(workplace, b"rows")
    file, _ = add_file(workplace, blob), add_file(workplace, blob)
    delete_file(workplace, file)
    assert remove(workplace, after_s=_HOUR_S + 60) == 0
    assert workplace.blobs.exists(blob.sha256)


def test_a_checkpoint_that_was_thinned_out_frees_what_it_had_alone(workplace: Workplace) -> None:
    tokenizer, first, second = (store(workplace, data) for data in (b"tokenizer", b"step 1", b"step 2"))
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease, workplace.database.write() as s:
        assert leases.begin_running(s, job_id, lease.fence)
        for step, weights in enumerate((first, second), 1):
            entries = [FileEntry("tokenizer.json", *tokenizer), FileEntry("model.safetensors", *weights)]
            artifacts.publish_checkpoint(
                s, job_id, lease.fence, step=step, layout="model", files=entries, metrics={}, lineage={}, keep=1
            )
    assert remove(workplace) == 0
    assert remove(workplace, after_s=_HOUR_S + 60) == 1
    kept = [workplace.blobs.exists(blob.sha256) for blob in (tokenizer, first, second)]
    assert kept == [True, False, True]


def test_what_was_stored_a_moment_ago_is_kept_for_the_row_that_will_name_it(workplace: Workplace) -> None:
    store(workplace, b"an upload on its way", age_s=60)
    assert remove(workplace) == 0


@pytest.mark.parametrize("name", ["notes.txt", "tmp"])
def test_what_is_no_blob_is_left_alone(workplace: Workplace, name: str) -> None:
    stranger = workplace.blobs.root / "00" / "00" / name
    stranger.parent.mkdir(parents=True)
    stranger.write_text("mine")
    os.utime(stranger, (0, 0))
    assert remove(workplace) == 0
    assert stranger.exists()


def test_a_round_is_made_in_parts(workplace: Workplace) -> None:
    for number in range(40):
        store(workplace, b"%d" % number)
    unnamed = UnnamedBlobs(workplace.database, workplace.blobs, _HOUR_S)
    removed = [unnamed.remove_some(time.time(), folders=64) for _ in range(4)]
    assert sum(removed) == 40
    assert max(removed) < 40


def test_nothing_is_removed_from_the_store_of_another_installation(
    workplace: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    blob = store(workplace, b"named by the other one")
    workplace.blobs.claim("inst-other")
    assert remove(workplace) == 0
    assert workplace.blobs.exists(blob.sha256)
    assert "trainyard doctor --take-over" in caplog.text
    installation.take_over(workplace.database, workplace.blobs)
    assert remove(workplace) == 1


class SweptMeanwhile(BlobStore):
    """A store whose sweep comes by before the last file of a folder is stored."""

    def put_file(self, path: Path) -> Blob:
        if path.name == "last":
            for sha256 in self.unused_since(FIRST.sha256[:2], time.time() + 1):
                assert self.discard(sha256, time.time() + 1)
        return super().put_file(path)


FIRST = Blob(hashlib.sha256(b"first").hexdigest(), len(b"first"))


def test_what_a_sweep_removed_while_an_artifact_was_stored_is_stored_again(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    for name in ("first", "last"):
        (folder / name).write_text(name)
    blobs = SweptMeanwhile(tmp_path / "blobs", low_space_bytes=0)
    entries = stage.store(folder, blobs)
    assert [entry.path for entry in entries] == ["first", "last"]
    assert all(blobs.exists(entry.sha256) for entry in entries)
