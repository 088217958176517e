"""Scores against lm_eval's on local tasks, item by item: multiple choice by letter and by text, and generation."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import runs
from tests.parity.conftest import Agrees

_MMLU = "The following are multiple choice questions (with answers) about {{subject}}.\n\n"
_LETTERED = "{% for choice in choices %}{{'ABCD'[loop.index0]}}. {{choice}}\n{% endfor %}Answer:"
_CHOICE = {"output_type": "multiple_choice", "doc_to_target": "answer", "target_delimiter": " "}
_ACC = {"metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
_TASKS: dict[str, dict[str, Any]] = {
    "original": _CHOICE | _ACC | {"doc_to_text": _MMLU + "{{question}}\n" + _LETTERED, "doc_to_choice": list("ABCD")},
    "harness": _CHOICE
    | _ACC
    | {"doc_to_text": "Question: {{question}}\nChoices:\n" + _LETTERED, "doc_to_choice": "choices"},
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "completion",
        "generation_kwargs": {"until": ["cat"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


def theirs(name: str, model: Path, rows: Path, folder: Path, **how: Any) -> list[dict[str, Any]]:
    """lm_eval's samples of a local task, in the order of the rows."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}}, "test_split": "test"}
    folder.mkdir()
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **data, **_TASKS[name]}))
    scored = simple_evaluate(
        model=HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=4),
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        **how,
    )
    assert scored is not None
    return sorted(scored["samples"][name], key=lambda sample: sample["doc_id"])


def ours(root: Path, rows: list[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    """The items of an evaluation job."""
    spec = {"kind": "eval", "model": "tiny/1", "eval_file": "file-1"}
    runs.write_job(root, spec | {"evaluation": {"precision": "fp32", "max_length": 256, **settings}})
    runs.write_rows(root / "data/eval.jsonl", rows)
    runs.save_base(root / "model")
    assert runs.carry_out(root) == 0, runs.events(root, "failed")
    return [json.loads(line) for line in (root / "items.jsonl").read_text().splitlines()]


def questions() -> list[dict[str, Any]]:
    rows = runs.answers(48)
    texts = [row["completion"] for row in rows]
    return [
        {"question": row["prompt"], "choices": texts[n : n + 4], "answer": n % 4, "subject": "cats"}
        for n, row in enumerate(rows[:44])
    ]


@pytest.mark.parametrize("way", ["original", "harness"])
def test_multiple_choice_scores_every_item_as_lm_eval_does(way: str, tmp_path: Path, agrees: Agrees) -> None:
    items = ours(tmp_path / "run", questions())
    samples = theirs(way, tmp_path / "run/model", tmp_path / "run/data/eval.jsonl", tmp_path / "tasks")
    worst = 0.0
    for item, sample in zip(items, samples, strict=True):
        logprobs = [float(one[0]) for one in sample["filtered_resps"]]
        worst = max(worst, *(abs(a - b) / abs(b) for a, b in zip(item["logprobs"][way], logprobs, strict=True)))
        assert item["correct"][way] == bool(sample["acc"])
        if way == "harness":
            assert item["correct"]["harness_norm"] == bool(sample["acc_norm"])
    agrees(f"eval, log-likelihoods of {way}", len(items), worst, 1e-5)


def test_generation_writes_and_grades_every_item_as_lm_eval_does(tmp_path: Path, agrees: Agrees) -> None:
    rows = runs.answers(24)
    items = ours(tmp_path / "first", rows, task="generate", max_new_tokens=12, stop=["cat"])
    # A random model is right about nothing: of what it writes, some become the references.
    for row, item in list(zip(rows, items, strict=True))[::2]:
        if item["text"] == item["text"].strip() != "":
            row["completion"] = item["text"]
    items = ours(tmp_path / "run", rows, task="generate", max_new_tokens=12, stop=["cat"], answer_pattern="(?s)^(.*)$")
    samples = theirs(
        "written",
        tmp_path / "run/model",
        tmp_path / "run/data/eval.jsonl",
        tmp_path / "tasks",
        apply_chat_template=True,
    )
    texts = [sample["filtered_resps"][0] for sample in samples]
    assert [item["text"] for item in items] == texts
    differing = sum(item["correct"] != bool(s["exact_match"]) for item, s in zip(items, samples, strict=True))
    assert 0 < sum(item["correct"] for item in items) < len(items)
    agrees("eval, exact match of what is written", len(items), differing, 0)
