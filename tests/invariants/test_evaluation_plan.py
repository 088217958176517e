"""What is foretold of an evaluation is what it comes to: batches, tokens and operations of each task; and its memory."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.allocations import peak_of
from engine.effort import Model
from engine.forecast import forecast
from engine.forecast.case import ScoringCase
from engine.forecast.room import Mend, mend_of
from engine.jobs import JOB_SPEC
from engine.kinds.eval.objective import EvalObjective
from engine.plan import Scoring, Setting, Shape, Writing
from engine.stop import StopFlag
from tests import runs
from tests.invariants.test_memory_plan import CONFIG

SPEC = {"kind": "eval", "model": "tiny/1", "eval_file": "file-1"}


def questions(rows: int, words: int = 4) -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [
        {
            "question": runs.sentence(rng, rng.randint(1, words)),
            "choices": [runs.sentence(rng, rng.randint(1, 3)) for _ in range(3)],
            "answer": 1,
        }
        for _ in range(rows)
    ]


def evaluation(root: Path, rows: list[dict[str, Any]], width: int = 32, **changes: Any) -> Path:
    settings = {"precision": "fp32", "max_length": 96, "per_device_eval_batch_size": 2, **changes.pop("evaluation", {})}
    runs.write_job(root, SPEC | {"evaluation": settings} | changes)
    runs.write_rows(root / "data" / "eval.jsonl", rows)
    runs.save_base(root / "model", width=width)
    return root


def foretold(root: Path, past: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return forecast(root, {"past": past or []}, StopFlag())


def used(root: Path) -> dict[str, Any]:
    assert runs.carry_out(root) == 0, runs.events(root)[-1]
    (told,) = runs.events(root, "used")
    return told


def with_adapter(root: Path, tuning: dict[str, Any] | None = None) -> None:
    """What a job of its own makes of the base."""
    spec = runs.sft_spec(max_steps=1) | ({} if tuning is None else {"tuning": tuning})
    tuned = runs.sft_run(root.parent / "tuned", spec=spec)
    assert runs.carry_out(tuned) == 0
    (tuned / "output").rename(root / "adapter")


def with_baseline(root: Path) -> None:
    runs.save_base(root / "baseline")


@pytest.mark.parametrize(
    ("task", "rows", "more"),
    [
        ("loss", [{"text": runs.text(4, seed)} for seed in range(12)], None),
        ("loss", runs.answers(30), with_adapter),
        ("tokens", [{"text": runs.text(4, seed)} for seed in range(8)], with_baseline),
        ("multiple_choice", questions(9), None),
        ("multiple_choice", questions(9), with_baseline),
    ],
)
def test_batches_tokens_and_operations_are_those_of_the_evaluation(tmp_path, task, rows, more):
    asked = {"task": task} | ({"rows": [2, 3, 5, 7]} if task == "tokens" else {})
    compared = {"compare_to": "other/1"} if more is with_baseline else {}
    root = evaluation(tmp_path / "run", rows, evaluation=asked, **compared)
    if more is not None:
        more(root)
    told, came = foretold(root), used(root)
    assert told["exact"]
    assert {name: told[name] for name in ("steps", "tokens", "trained_tokens")} == {
        name: came[name] for name in ("steps", "tokens", "trained_tokens")
    }
    assert told["steps"] > 1
    assert told["flops"]["all"] == came["flops"]
    assert told["effort"] == came["effort"]
    assert came["method"] == task
    assert told["memory"]["gradients"] == told["memory"]["optimizer"] == told["trainable_parameters"] == 0


def test_what_nothing_is_planned_for_still_has_its_batches(tmp_path):
    root = evaluation(tmp_path / "run", runs.answers(30))
    with_adapter(root, {"method": "lora", "use_dora": True})
    told = foretold(root)
    assert (told["memory"], told["eta"]) == (None, None)
    assert "DoRA" in told["unplanned"]
    assert told["steps"] == used(root)["steps"]


def test_solved_examples_pass_through_the_model_with_each_question(tmp_path):
    bare = foretold(evaluation(tmp_path / "bare", questions(6), evaluation={"max_length": 256}))
    shots = evaluation(
        tmp_path / "run", questions(6), evaluation={"num_fewshot": 2, "max_length": 256}, fewshot_file="file-2"
    )
    runs.write_rows(shots / "data" / "fewshot.jsonl", questions(3))
    told, came = foretold(shots), used(shots)
    assert (told["steps"], told["tokens"]) == (came["steps"], came["tokens"])
    assert told["tokens"] > 1.5 * bare["tokens"]


def test_what_is_written_is_foretold_at_most(tmp_path):
    rows = runs.answers(7)
    root = evaluation(tmp_path / "run", rows, evaluation={"task": "generate", "max_new_tokens": 9})
    told, came = foretold(root), used(root)
    assert not told["exact"]
    assert told["steps"] == came["steps"] == 4
    assert told["trained_tokens"] == 7 * 9
    items = [json.loads(line) for line in (root / "items.jsonl").read_text().splitlines()]
    written = sum(item["tokens"] for item in items)
    assert came["trained_tokens"] == written
    assert told["tokens"] - came["tokens"] == 7 * 9 - written
    assert told["memory"]["activations"] > 0


def test_a_plan_leaves_nothing_to_the_machine_and_tells_of_the_rows(tmp_path):
    root = evaluation(tmp_path / "run", runs.answers(30), evaluation={"max_length": 16})
    told = foretold(root)
    assert told["spec"]["evaluation"]["task"] == "loss"
    assert told["spec"]["resources"]["device"] == "cpu"
    (file,) = told["files"]
    assert (file["file"], file["rows"]) == ("file-1", 30)
    used(root)
    cut = next(event["data"] for event in runs.events(root, "log") if event["code"] == "rows_truncated")
    assert (file["truncated"], file["lines"]["truncated"]) == (cut["count"], cut["lines"])
    assert 0 < told["packing_efficiency"] <= 1
    assert json.loads(json.dumps(told)) == told


def test_evaluations_learn_from_evaluations_alone(tmp_path):
    root = evaluation(tmp_path / "run", runs.answers(10))
    effort = foretold(root)["effort"]
    past: dict[str, Any] = {"device": "cpu", "precision": "fp32", "runtime_bytes": 1 << 28, "effort": effort}
    past["part_seconds"] = {"steps": 0.0, "scoring": 40.0}
    trained = [past | {"method": "full", "seconds": 500.0}] * 9
    scored = [past | {"method": "loss", "seconds": 50.0}] * 9
    assert foretold(root, trained)["eta"]["runs"] == 0
    told = foretold(root, [*trained, *scored])["eta"]
    assert told["runs"] == 9
    assert told["expected"] == pytest.approx(50.0, rel=0.3)


def held_and_planned(root: Path) -> tuple[int, int]:
    with runs.opened(root) as session:
        objective: Any = session.objective
        assert isinstance(objective, EvalObjective)
        rows = session.rows.validation
        first, setting = (objective.setting(session.machine, session.stop, session.ranks) for _ in range(2))
        objective.score(session.subject, rows, first)  # which lays weights side by side: what it frees is not told
        held = sum(p.nbytes for p in session.subject.model.parameters())
        held += peak_of(lambda: objective.score(session.subject, rows, setting))
        return held, Model.loaded(*objective.model, session.machine).memory(setting.passes).tensors


@pytest.mark.parametrize(
    ("rows", "given"),
    [
        ([{"text": "the cat sees a dog. " * 800}] * 3, {"max_length": 256, "per_device_eval_batch_size": 8}),
        ([{"prompt": "the", "completion": "cat " * 40}] * 40, {"max_length": 64, "per_device_eval_batch_size": 16}),
        (questions(40, words=60), {"max_length": 256, "per_device_eval_batch_size": 8}),
        (questions(40, words=12), {"max_length": 64, "per_device_eval_batch_size": 16}),
    ],
)
def test_an_evaluation_holds_what_was_planned(tmp_path, rows, given):
    root = evaluation(tmp_path / "run", rows, width=128, evaluation=given)
    held, planned = held_and_planned(root)
    assert planned == pytest.approx(held, rel=0.10)


def test_an_evaluation_of_experts_holds_what_was_planned(tmp_path):
    rows, given = runs.answers(12), {"max_length": 128, "per_device_eval_batch_size": 8}
    root = evaluation(tmp_path / "run", rows, evaluation=given)
    runs.save_base(root / "model", "mixtral", width=128)
    held, planned = held_and_planned(root)
    assert planned == pytest.approx(held, rel=0.10)


def case(work: Scoring | Writing) -> ScoringCase:
    """Of the default batch size of 8, and of a max_length of 1024."""
    spec: Any = JOB_SPEC.validate_python(SPEC)
    tuning: Any = JOB_SPEC.validate_python(runs.sft_spec() | {"tuning": {"method": "full"}})
    setting = Setting("cpu", "bf16", tuning.tuning, tuning.hyperparameters)
    if isinstance(work, Writing):
        spec = JOB_SPEC.validate_python(SPEC | {"evaluation": {"task": "generate"}})
    return ScoringCase(spec, Shape.of(CONFIG | {"vocab_size": 32_000}), work, setting, 1 << 20)


@pytest.mark.parametrize("work", [Scoring(8192, 8192, 1024, "logprobs"), Writing(8, 768, 256)])
def test_what_does_not_fit_is_told_smaller_batches_or_shorter_rows(work):
    given = case(work)
    mend = mend_of(given, given.plan().total - 1)
    assert mend is not None
    (edit,) = mend.edits
    assert (edit.path, edit.value) == ("evaluation.per_device_eval_batch_size", 4)
    assert mend.total < given.plan().total
    assert mend_of(given, 1 << 10) is None


def changed(given: ScoringCase, mend: Mend) -> ScoringCase:
    changes = dict(given.edits())
    done: Any = given
    for edit in mend.edits:
        done = changes[edit](done)
    return done


def test_a_batch_that_was_never_full_is_told_to_be_as_small_as_makes_it_smaller():
    """Of 8192 tokens that are allowed, a batch of short rows has 2000; three prompts are fewer than eight."""
    scored, written = case(Scoring(2000, 1000, 200, "logprobs")), case(Writing(3, 100, 256))
    mend = mend_of(scored, scored.plan().total - 1)
    assert mend is not None
    assert [edit.value for edit in mend.edits] == [1]
    done = changed(scored, mend)
    assert done.work == Scoring(1024, 512, 200, "logprobs")
    assert mend.total == done.plan().total
    mend = mend_of(written, written.plan().total - 1)
    assert mend is not None
    assert [edit.value for edit in mend.edits] == [2]
    assert changed(written, mend).work == Writing(2, 100, 256)


def test_a_shorter_max_length_shortens_prompts_and_has_as_many_of_them():
    given = case(Writing(8, 768, 256))
    shorter: dict[int, Any] = {edit.value: change(given) for edit, change in given.edits() if "max_length" in edit.path}
    assert {length: done.work for length, done in shorter.items()} == {512: Writing(8, 256, 256)}
