"""From stored files to a run directory, and back."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from db import artifacts, files, leases
from db.artifacts import FileEntry
from db.errors import BlobsUnavailable
from db.models import Artifact
from engine.errors import DataError, SpecError
from tests.integration.workers.workplace import Workplace, tiny_pretrain
from workers import stage


def lay_out(workplace: Workplace, job_id: str, run_dir: Path) -> stage.StagingPlan:
    with workplace.database.read() as s:
        planned = stage.plan(s, workplace.job(job_id), 1)
    stage.lay_out(planned, workplace.blobs, run_dir)
    return planned


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def publish(workplace: Workplace, layout: str, content: dict[str, str], base: Artifact | None = None) -> Artifact:
    """A model or adapter, as a job publishes it."""
    job_id = workplace.submit(tiny_pretrain(workplace.upload()), base=base and base.id)
    entries = store(workplace, content)
    with workplace.claim(job_id) as lease, workplace.database.write() as s:
        leases.begin_running(s, job_id, lease.fence)
        artifact = artifacts.publish_result(
            s, job_id, lease.fence,
            kind=layout, layout=layout, name="made", step=1, files=entries, metrics={}, lineage={},
        )  # fmt: skip
        lease._ended.set()
    assert artifact is not None
    return artifact


def store(workplace: Workplace, content: dict[str, str]) -> list[FileEntry]:
    entries = []
    for path, text in content.items():
        with workplace.blobs.writer() as writer:
            writer.write(text.encode())
            blob = writer.commit()
        entries.append(FileEntry(path, blob.sha256, blob.size_bytes))
    return entries


def sft(model: str, **changes: Any) -> dict[str, Any]:
    return {"kind": "sft", "model": model, **changes}


def test_a_stored_file_that_is_missing_is_named_and_a_disk_that_is_not_there_is_waited_for(
    workplace: Workplace, tmp_path: Path
) -> None:
    job_id = workplace.submit_tiny()
    (store_folder,) = [path for path in workplace.blobs.root.iterdir() if len(path.name) == 2]
    store_folder.rename(tmp_path / "elsewhere")
    with pytest.raises(BlobsUnavailable, match="not mounted"):
        lay_out(workplace, job_id, tmp_path / "run")
    while workplace.blobs.put_file(_some_file(tmp_path)).sha256.startswith(store_folder.name):
        pass
    with pytest.raises(DataError, match=r"data/train.txt is no longer in the blob store"):
        lay_out(workplace, job_id, tmp_path / "run")


def _some_file(folder: Path) -> Path:
    file = folder / "another"
    file.write_bytes(os.urandom(8))
    return file


def test_a_run_directory_holds_the_job_and_its_data(workplace: Workplace, tmp_path: Path) -> None:
    job_id = workplace.submit_tiny()
    lay_out(workplace, job_id, tmp_path / "run")
    assert tree(tmp_path / "run") == ["data/train.txt", "job.json"]
    written = json.loads((tmp_path / "run/job.json").read_text())
    assert written == {"job_id": job_id, "attempt": 1, "spec": workplace.job(job_id).spec}


def test_data_are_hard_links_to_the_store(workplace: Workplace, tmp_path: Path) -> None:
    job_id = workplace.submit_tiny()
    planned = lay_out(workplace, job_id, tmp_path / "run")
    (link,) = planned.links
    assert (tmp_path / "run/data/train.txt").samefile(workplace.blobs.path(link.sha256))


def test_the_extension_follows_the_format_of_each_file(workplace: Workplace, tmp_path: Path) -> None:
    rows = workplace.upload('{"text": "a"}\n', "text_jsonl")
    job_id = workplace.submit(tiny_pretrain(rows, validation_file=workplace.upload()))
    lay_out(workplace, job_id, tmp_path / "run")
    assert tree(tmp_path / "run/data") == ["train.jsonl", "validation.txt"]


def test_an_eval_gets_its_rows_and_its_model(workplace: Workplace, tmp_path: Path) -> None:
    base = publish(workplace, "model", {"config.json": "{}", "model.safetensors": "w"})
    job_id = workplace.submit({"kind": "eval", "model": "made/1", "eval_file": workplace.upload()}, base=base.id)
    lay_out(workplace, job_id, tmp_path / "run")
    assert tree(tmp_path / "run") == ["data/eval.txt", "job.json", "model/config.json", "model/model.safetensors"]


def test_an_adapter_comes_with_the_model_below_it(workplace: Workplace, tmp_path: Path) -> None:
    model = publish(workplace, "model", {"config.json": "{}"})
    lower = publish(workplace, "adapter", {"adapter_config.json": '"lower"'}, base=model)
    upper = publish(workplace, "adapter", {"adapter_config.json": '"upper"'}, base=lower)
    job_id = workplace.submit(sft("made", training_file=workplace.upload("{}", "chat")), base=upper.id)
    planned = lay_out(workplace, job_id, tmp_path / "run")
    assert tree(tmp_path / "run") == [
        "adapter/adapter_config.json",
        "data/train.jsonl",
        "job.json",
        "model/config.json",
    ]
    assert (tmp_path / "run/adapter/adapter_config.json").read_text() == '"upper"'
    base = planned.lineage["base"]
    assert base == {"id": upper.id, "name": upper.name, "version": upper.version, "digest": upper.digest}


def test_what_a_job_compares_with_lies_beside_its_model(workplace: Workplace, tmp_path: Path) -> None:
    model = publish(workplace, "model", {"config.json": "{}"})
    adapter = publish(workplace, "adapter", {"adapter_config.json": "{}"}, base=model)
    rows = workplace.upload("{}", "chat")
    job_id = workplace.submit(
        {"kind": "eval", "model": "made/1", "eval_file": rows, "compare_to": "made/2"}, base=model.id
    )
    planned = lay_out(workplace, job_id, tmp_path / "run")
    assert tree(tmp_path / "run") == [
        "baseline-adapter/adapter_config.json",
        "baseline/config.json",
        "data/eval.jsonl",
        "job.json",
        "model/config.json",
    ]
    assert planned.lineage["compare_to"]["id"] == adapter.id


def test_all_kept_checkpoints_are_there_to_go_on_from(workplace: Workplace, tmp_path: Path) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease, workplace.database.write() as s:
        for step in (3, 6):
            entries = store(workplace, {"model.safetensors": f"{step}", "state/progress.json": f"{step}"})
            artifacts.publish_checkpoint(
                s, job_id, lease.fence,
                step=step, layout="model", files=entries, metrics={}, lineage={}, keep=3,
            )  # fmt: skip
        lease._ended.set()
    lay_out(workplace, job_id, tmp_path / "run")
    folders = [
        f"checkpoints/step-0000000{step}/{name}"
        for step in (3, 6)
        for name in ("model.safetensors", "state/progress.json")
    ]
    assert tree(tmp_path / "run") == [*folders, "data/train.txt", "job.json"]


def test_the_state_of_a_checkpoint_is_left_out_where_it_is_a_base(workplace: Workplace, tmp_path: Path) -> None:
    base = publish(workplace, "model", {"config.json": "{}", "state/progress.json": "{}"})
    job_id = workplace.submit({"kind": "eval", "model": "made", "eval_file": workplace.upload()}, base=base.id)
    lay_out(workplace, job_id, tmp_path / "run")
    assert tree(tmp_path / "run/model") == ["config.json"]


def test_the_state_of_a_checkpoint_comes_with_a_job_that_keeps_it(workplace: Workplace, tmp_path: Path) -> None:
    base = publish(workplace, "model", {"config.json": "{}", "state/trainer.pt": "moments"})
    rows = workplace.upload("{}", "chat")
    job_id = workplace.submit(sft("made", training_file=rows, optimizer_state="kept"), base=base.id)
    lay_out(workplace, job_id, tmp_path / "run")
    assert tree(tmp_path / "run") == [
        "continued/state/trainer.pt",
        "data/train.jsonl",
        "job.json",
        "model/config.json",
    ]


def test_a_deleted_file_is_told_as_an_error_of_the_spec(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = workplace.submit_tiny()
    monkeypatch.setattr(files, "get", lambda *_: None)  # the database refuses to delete a file in use
    with workplace.database.read() as s, pytest.raises(SpecError, match="was deleted"):
        stage.plan(s, workplace.job(job_id), 1)


def test_a_run_directory_from_an_earlier_life_is_replaced(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/events.jsonl").write_text("old")
    lay_out(workplace, workplace.submit_tiny(), tmp_path / "run")
    assert tree(tmp_path / "run") == ["data/train.txt", "job.json"]


@pytest.mark.parametrize("path", ["../outside", "/etc", "checkpoints/../../x", ""])
def test_an_event_cannot_name_a_folder_outside_its_run_directory(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves the run directory"):
        stage.folder_of(tmp_path, path)


def test_a_link_in_an_export_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output/model.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="not a plain file"):
        stage.store(tmp_path / "output", workplace.blobs)


def test_an_empty_export_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    with pytest.raises(ValueError, match="holds no files"):
        stage.store(tmp_path / "output", workplace.blobs)


def test_a_digest_tells_the_bytes_of_a_folder_whatever_lies_in_the_others() -> None:
    base = [stage.Link("model/config.json", "c" * 64), stage.Link("model/model.safetensors", "b" * 64)]
    one, other = (stage.digests([*base, stage.Link("adapter/weights", sha256 * 64)]) for sha256 in "12")
    assert one["model"] == other["model"] == stage.digests(base[::-1])["model"]
    assert one["adapter"] != other["adapter"]
