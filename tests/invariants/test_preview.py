"""What a preview shows is what the trainer trains on: the same tokens, the same labels, in the same places."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.stream import RowStream
from engine.dist.ranks import Ranks
from engine.errors import SpecError
from engine.forecast import forecast
from engine.job_rows import material_of
from engine.loop import Training
from engine.preview import preview
from engine.preview.lines import lines_of
from engine.stop import StopFlag
from tests import runs

ROWS = 1_100
STEPS = 70
BATCH = 16


def sft(root: Path, **hyperparameters: Any) -> Path:
    return runs.sft_run(root, ROWS, runs.sft_spec(**hyperparameters))


def dpo(root: Path, **hyperparameters: Any) -> Path:
    spec = runs.dpo_spec(**hyperparameters) | {"dpo": {"reference": "disabled_adapter"}}
    return runs.dpo_run(root, ROWS, spec)


def pretrain(root: Path, **hyperparameters: Any) -> Path:
    runs.pretrain_run(root, **hyperparameters)
    (root / "data" / "train.txt").write_text(runs.text(4 * ROWS, seed=3))
    return root


KINDS = {"sft": sft, "dpo": dpo, "pretrain": pretrain}


def shown(root: Path, **asked: Any) -> dict[str, Any]:
    return preview(material_of(root), asked, StopFlag())


def labels(document: dict[str, Any]) -> list[int]:
    return [token for token, trained in zip(document["ids"], document["trained"], strict=True) if trained]


def documents(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [document for row in batch["rows"] for document in row["documents"]]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_a_step_are_shown_as_the_trainer_takes_them(tmp_path, kind, packing):
    root = KINDS[kind](
        tmp_path / "run", packing=packing, per_device_train_batch_size=BATCH, max_length=48, max_steps=STEPS
    )
    compared = 0
    with runs.opened(root) as session:
        spec: Any = session.spec
        training = Training(session, spec)
        for step in range(1, STEPS + 1):
            batches = training.stream.next_step()
            told = shown(root, step=step)["step"]["batches"]
            assert len(told) == len(batches)
            for batch, seen in zip(batches, map(documents, told), strict=True):
                assert batch.labels_N.tolist() == [token for document in seen for token in labels(document)]
                assert batch.label_counts == tuple(len(labels(document)) for document in seen)
                assert batch.lines == tuple(document["line"] for document in seen)
                if not any(end - begin for begin, end in batch.prefixes):
                    assert batch.ids_T.tolist() == [token for document in seen for token in document["ids"][:-1]]
                compared += len(seen)
    assert compared > 1_000


@pytest.mark.parametrize(("batch", "accumulation", "processes"), [(8, 2, 3), (2, 1, 3), (4, 2, 2)])
def test_a_step_of_several_processes_is_shown_as_they_take_it(tmp_path, batch, accumulation, processes):
    hyper = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "max_length": 48}
    spec = runs.sft_spec(**hyper) | {"resources": {"nproc_per_node": processes}}
    root = runs.sft_run(tmp_path / "run", ROWS, spec)
    material = material_of(root)
    ranks = [RowStream.of_job(material.rows, material.spec, Ranks(rank, processes)) for rank in range(processes)]
    for step in range(1, 7):
        taken = [[*taking.lines] for rank in ranks for taking in rank.next_step() if taking.counts]
        told = shown(root, step=step)["step"]["batches"]
        assert [[document["line"] for document in documents(seen)] for seen in told] == taken


@pytest.mark.parametrize("steps", [{"max_steps": 6}, {"max_steps": None, "num_train_epochs": 2}])
def test_a_step_beyond_the_last_is_refused(tmp_path, steps):
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(**steps))
    last = forecast(root, {"past": []}, StopFlag())["steps"]
    assert shown(root, step=last)["step"]["batches"]
    with pytest.raises(SpecError, match=f"the run has {last}$"):
        shown(root, step=last + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_shown_with_the_labels_that_the_trainer_gives_it(tmp_path, kind):
    root = KINDS[kind](tmp_path / "run", max_length=48)
    with runs.opened(root) as session:
        train: Any = session.rows.train
        corpus = train.window(0, 0) if kind == "dpo" else train.shares[0].supply.window(0, 0)
    expected: dict[int, list[list[int]]] = {}
    for document in corpus.documents():
        masked = [False, *document.trained[1:].tolist()]
        answers = [int(token) for token, label in zip(document.ids, masked, strict=True) if label]
        expected.setdefault(document.line, []).append(answers)
    assert sum(map(len, expected.values())) > 1_000
    lines = sorted(expected)
    for start in range(0, len(lines), 100):
        for row in shown(root, lines=lines[start : start + 100])["rows"]:
            assert [labels(document) for document in row["documents"]] == expected[row["line"]]


def test_lines_that_are_held_out_or_left_out_say_so(tmp_path):
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(max_length=20, long_rows="drop") | {"exclude_rows": [3]})
    material = material_of(root)
    counted = shown(root, statistics=True)["statistics"][0]
    assert material.rows.validation is not None
    held_out = int(material.rows.validation.lines[0])
    dropped = counted["lines"]["dropped"][0]
    rows = {row["line"]: row for row in shown(root, lines=[3, held_out, dropped, 99])["rows"]}
    assert [rows[line]["reason"] for line in (3, dropped, 99)] == ["excluded", "dropped", "not_a_row"]
    assert (rows[held_out]["split"], len(rows[held_out]["documents"])) == ("validation", 1)


def two_files(root: Path, **files: Any) -> Path:
    """A job whose files both hold a part of their rows out; of the training file, nothing but short rows is kept."""
    spec = runs.sft_spec(max_length=32, long_rows="drop", max_steps=6, lr_scheduler_type="wsd", warmup_steps=0)
    del spec["training_file"]
    runs.write_job(root, {**spec, **files, "validation_file": "auto"})
    long = {"prompt": "the cat sees", "completion": "a dog " * 60}
    short = [{"prompt": f"the cat {number}", "completion": "a dog"} for number in range(200)]
    rows = [long | {"prompt": str(number)} if number % 2 else row for number, row in enumerate(short)]
    other = [{"prompt": f"here {number}", "completion": "the tree"} for number in range(200)]
    names = ("train-0", "train-1") if "mixture" in files else ("train", "annealing-0")
    for name, content in zip(names, (rows, other), strict=True):
        runs.write_rows(root / "data" / f"{name}.jsonl", content)
    runs.save_base(root / "model")
    return root


@pytest.mark.parametrize(
    "files",
    [
        {"training_file": "file-a", "annealing": [{"file": "file-b"}]},
        {"mixture": [{"file": "file-a"}, {"file": "file-b"}]},
    ],
    ids=["annealing", "mixture"],
)
def test_a_line_of_the_first_file_is_never_taken_for_one_that_another_file_holds_out(tmp_path, files):
    root = two_files(tmp_path / "run", **files)
    supply: Any = material_of(root).mixture.shares[0].supply
    held_out = {row + 1 for row in supply.file.held_out.tolist()}
    second: Any = (material_of(root).mixture.shares + material_of(root).mixture.annealing)[1].supply
    theirs = {row + 1 for row in second.file.held_out.tolist()}
    rows = {row["line"]: row for row in shown(root, lines=list(range(1, 201)))["rows"]}
    long = set(range(2, 201, 2))
    assert long & theirs - held_out, "some dropped rows of the one file are on held-out lines of the other"
    assert held_out - long
    assert held_out & long
    assert {line for line, row in rows.items() if row["split"] == "validation"} == held_out - long
    assert {line for line, row in rows.items() if row["reason"] == "dropped"} == long
    for line in held_out - long:
        (document,) = rows[line]["documents"]
        assert f"the cat {line - 1}" in "".join(document["pieces"])


def test_a_line_longer_than_a_block_is_shown_from_its_first_word_and_whole(tmp_path):
    root = runs.pretrain_run(tmp_path / "run")
    words = " ".join(f"{number}" for number in range(60_000))
    (root / "data" / "train.txt").write_text(f"first {words}\nthe last line\n")
    supply: Any = material_of(root).mixture.shares[0].supply
    assert len(supply.file.blocks) > 1
    documents = int((supply.window(0, 0).lines == 1).sum())
    for asked in ({"lines": [1]}, {"limit": 3}):
        row = shown(root, **asked)["rows"][0]
        assert "".join(row["documents"][0]["pieces"]).startswith("<|endoftext|>first 0 1 2")
        assert not row["complete"], "a page has no room for it"
    assert [line.number for line in lines_of(material_of(root), {"limit": 3})] == sorted(
        set(supply.window(0, 0).lines.tolist())
    )
    for query in ({"lines": [1]}, {"limit": 1}):
        (line,) = lines_of(material_of(root), query)
        assert len(line.documents) == documents


def test_the_statistics_count_every_training_row_once(tmp_path):
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(max_length=24))
    path = root / "data" / "train.jsonl"
    long = {"prompt": "the cat " * 60, "completion": "no"}
    path.write_text(path.read_text() + json.dumps(long) + "\n")
    counted = shown(root, statistics=True)["statistics"][0]
    with runs.opened(root) as session:
        train: Any = session.rows.train
        cut = train.shares[0].supply.cut(0, 0)
    assert counted["rows"] == train.row_count() == sum(counted["lengths"]["counts"])
    assert (counted["truncated"], counted["no_trained_token"]) == (len(cut.truncated), len(cut.untrained))
    assert counted["no_trained_token"] >= 1
    assert counted["trained_tokens"] == cut.corpus.labels()
    assert counted["complete"]


def test_the_rows_after_a_line_are_pages_of_the_file(tmp_path):
    root = runs.sft_run(tmp_path / "run")
    first = [row["line"] for row in shown(root, limit=4)["rows"]]
    second = [row["line"] for row in shown(root, limit=4, after_line=first[-1])["rows"]]
    assert first == sorted(first)
    assert second[0] > first[-1]
    assert len(second) == 4


def test_rows_too_long_for_a_page_are_cut_and_say_so(tmp_path, monkeypatch):
    root = runs.sft_run(tmp_path / "run")
    whole = shown(root, limit=3)["rows"]
    sizes = [len(row["documents"][0]["ids"]) for row in whole]
    assert all(row["complete"] for row in whole)
    module = importlib.import_module("engine.preview.preview")  # the package has a function of that name
    monkeypatch.setattr(module, "_MOST_TOKENS", sizes[0] + 2)
    first, second, third = shown(root, limit=3)["rows"]
    assert first == whole[0]
    assert [second["documents"][0][name] for name in ("ids", "pieces", "trained")] == [
        whole[1]["documents"][0][name][:2] for name in ("ids", "pieces", "trained")
    ]
    assert third["documents"] == []
    assert not second["complete"]
    assert not third["complete"]
