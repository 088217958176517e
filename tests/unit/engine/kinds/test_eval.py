"""Evaluation jobs: prompts and metrics of multiple choice, grading of generated answers, items and intervals."""

import gzip
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers.processors import TemplateProcessing

from engine.errors import SpecError
from engine.intervals import Figure, paired_difference, wilson
from engine.jobs import JOB_SPEC
from engine.kinds.eval import choice
from engine.kinds.eval.choice import baselines
from engine.kinds.eval.grading import answer_in, grade, pattern_for
from engine.kinds.eval.scores import Scores, compared
from engine.kinds.eval.spec import GSM8K_PATTERN
from engine.rows import MultipleChoice, RowChecker, parse_row
from tests import runs

SHARED = Path(__file__).parents[5] / "shared/data"
MMLU, GSM8K = SHARED / "mmlu/mmlu_test.jsonl.gz", SHARED / "gsm8k"
needs_shared = pytest.mark.skipif(not MMLU.exists(), reason="the shared copies of MMLU and GSM8K are not here")
EVAL = {"kind": "eval", "model": "tiny/1", "eval_file": "file-1"}
SUNDIAL = MultipleChoice("Where is noon?", ("up", "down", "left"), 0, "sun_dials")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def questions(count: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [
        {
            "question": runs.sentence(rng, 4),
            "choices": [runs.sentence(rng, rng.randint(1, 4)) for _ in range(4)],
            "answer": rng.choice("ABCD"),
            "subject": rng.choice(["cats", "dogs"]),
        }
        for _ in range(count)
    ]


def evaluate(
    root: Path, rows: list[dict[str, Any]], shots: list[dict[str, Any]] | None = None, **settings: Any
) -> Path:
    fewshot = {} if shots is None else {"fewshot_file": "file-2"}
    runs.write_job(root, EVAL | fewshot | {"evaluation": {"precision": "fp32", "max_length": 256, **settings}})
    runs.write_rows(root / "data/eval.jsonl", rows)
    if shots is not None:
        runs.write_rows(root / "data/fewshot.jsonl", shots)
    runs.save_base(root / "model")
    return root


def finished(root: Path) -> dict[str, Any]:
    assert runs.carry_out(root) == 0, runs.events(root, "failed")
    return runs.events(root, "finished")[0]


def items(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "items.jsonl").read_text().splitlines()]


def fault(row: dict[str, Any]) -> Any:
    checker = RowChecker(purpose="evals", filename="rows.jsonl")
    checker.feed(json.dumps(questions(1)[0]).encode() + b"\n" + json.dumps(row).encode())
    report = checker.finish()
    assert (report.format, report.fault_count) == ("multiple_choice", 1), report
    return report.faults[0]


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"answer": 4}, "unknown_answer", "answer"),
        ({"answer": "E"}, "unknown_answer", "answer"),
        ({"answer": True}, "unknown_answer", "answer"),
        ({"choices": ["one"]}, "wrong_count", "choices"),
        ({"choices": "one"}, "wrong_type", "choices"),
        ({"choices": ["a", "b", " ", "d"]}, "empty_choice", "choices[2]"),
        ({"question": ""}, "empty_question", "question"),
        ({"subject": 3}, "wrong_type", "subject"),
    ],
)
def test_a_faulty_question_is_told_by_line_and_path(change, code, path):
    told = fault(questions(1)[0] | change)
    assert (told.line, told.code, told.path) == (2, code, path)


@pytest.mark.parametrize("answer", [1, "B", " B"])
def test_an_answer_is_a_number_or_a_letter(answer):
    row = parse_row({"question": "?", "choices": ["a", "b"], "answer": answer}, "multiple_choice")
    assert row == MultipleChoice("?", ("a", "b"), 1, "")


@needs_shared
def test_the_baselines_of_mmlu_are_the_published_ones():
    found = baselines([parse_row(row, "multiple_choice") for row in rows_of(MMLU)])
    shown = {name.removeprefix("eval_baseline/"): round(100 * share, 2) for name, share in found.items()}
    assert shown == {
        "always_A": 22.95, "always_B": 24.65, "always_C": 25.51, "always_D": 26.89,
        "longest_choice": 27.89, "shortest_choice": 21.88,
    }  # fmt: skip


def test_the_three_ways_ask_as_they_are_described():
    solved = MultipleChoice("Where is dawn?", ("east", "west"), 1, "sun_dials")
    asked = choice._asked(SUNDIAL, [solved])
    header = "The following are multiple choice questions (with answers) about sun dials.\n\n"
    lettered = "A. up\nB. down\nC. left\nAnswer:"
    assert asked[0] == (f"{header}Where is dawn?\nA. east\nB. west\nAnswer: B\n\nWhere is noon?\n{lettered}", " A")
    assert asked[3][0].endswith(f"Answer: B\n\nQuestion: Where is noon?\n{lettered}")
    assert asked[7] == (
        f"Question: Where is dawn?\nChoices:\nA. east\nB. west\nAnswer: west\n\nQuestion: Where is noon?\nChoices:\n{lettered}",
        " down",
    )
    assert [answer for _, answer in asked] == [" A", " B", " C"] * 2 + [" up", " down", " left"]


@pytest.mark.parametrize("template", ["$A", "<|bos|> $A"])
def test_an_end_that_the_tokenizer_adds_is_no_part_of_an_answer(template: str):
    plain, ended = runs.tokenizer(), runs.tokenizer()
    specials = [(name, plain.convert_tokens_to_ids(name)) for name in (plain.bos_token, plain.eos_token)]
    for fast, ending in ((plain, ""), (ended, " $END")):
        single = (template + ending).replace("<|bos|>", str(plain.bos_token)).replace("$END", str(plain.eos_token))
        fast.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=specials)
    assert ended("the cat")["input_ids"] == [*plain("the cat")["input_ids"], plain.eos_token_id]
    for prompt, answer in choice._asked(SUNDIAL, []):
        request = choice._encoded(ended, prompt, answer)
        assert request == choice._encoded(plain, prompt, answer)
        assert plain.decode(request.continuation) == answer


def test_multiple_choice_is_told_by_row_by_subject_and_with_intervals(tmp_path):
    root = evaluate(tmp_path / "run", questions(20))
    told = finished(root)
    metrics, found = told["metrics"], items(root)
    for figure, name in choice._FIGURES.items():
        share = np.mean([item["correct"][figure] for item in found])
        assert metrics[name] == pytest.approx(share)
        assert metrics[f"{name}_low"] <= share <= metrics[f"{name}_high"]
    assert sum(group["eval_rows"] for group in told["groups"].values()) == 20
    cats = [item["correct"]["harness"] for item in found if item["subject"] == "cats"]
    assert told["groups"]["cats"]["eval_acc/harness"] == pytest.approx(np.mean(cats))


def test_solved_examples_stand_before_each_question_and_change_its_score(tmp_path):
    plain, shown = evaluate(tmp_path / "plain", questions(6)), questions(30)
    primed = evaluate(tmp_path / "primed", questions(6), shown, num_fewshot=2)
    finished(plain), finished(primed)
    assert items(plain)[0]["logprobs"] != items(primed)[0]["logprobs"]


def test_a_subject_with_too_few_solved_examples_is_an_error_of_the_data(tmp_path):
    root = evaluate(tmp_path / "run", questions(6), questions(2), num_fewshot=2)
    assert runs.carry_out(root) == 65
    assert runs.events(root, "failed")[0]["code"] == "too_few_examples"


@pytest.mark.parametrize("task", ["multiple_choice", "generate"])
def test_a_row_is_no_solved_example_of_itself(tmp_path, task: str):
    rows = questions(8) if task == "multiple_choice" else runs.answers(8)
    given: dict[str, Any] = {"task": task, "num_fewshot": 2, "max_length": 512}
    if task == "generate":
        given["max_new_tokens"] = 8
    else:
        rows = [row | {"subject": "cats"} for row in rows]
    alike = evaluate(tmp_path / "alike", rows, rows, **given)
    apart = evaluate(tmp_path / "apart", rows, rows[1:], **given)
    finished(alike), finished(apart)
    ours, theirs = items(alike)[0], items(apart)[0]
    if task == "generate":
        assert ours["text"] == theirs["text"]
    else:  # their last bits depend on the rows that are read with it
        assert ours["logprobs"]["harness"] == pytest.approx(theirs["logprobs"]["harness"], rel=1e-4)
    few = evaluate(tmp_path / "few", rows, rows[:2], **given)
    assert runs.carry_out(few) == 65
    assert runs.events(few, "failed")[0]["code"] == "too_few_examples"


def test_prompts_over_the_limit_lose_their_beginning_and_are_told(tmp_path):
    root = evaluate(tmp_path / "run", questions(4), max_length=24)
    finished(root)
    told = next(event for event in runs.events(root, "log") if event["code"] == "prompts_truncated")
    assert told["data"]["lines"] == [1, 2, 3, 4]


def test_generated_answers_are_kept_and_graded(tmp_path):
    rows = [{"prompt": f"what is {n} plus 1?", "completion": f"it is\n#### {n + 1}"} for n in range(5)]
    root = evaluate(tmp_path / "run", rows, task="generate", max_new_tokens=8)
    metrics = finished(root)["metrics"]
    assert (metrics["eval_exact_match"], metrics["eval_parseable"], metrics["eval_rows"]) == (0, 0, 5)
    assert [(item["line"], item["reference"]) for item in items(root)] == [(n + 1, str(n + 1)) for n in range(5)]
    assert all(item["tokens"] <= 8 and item["text"] for item in items(root))


def test_a_model_that_has_learnt_an_answer_by_heart_matches_it_exactly(tmp_path):
    spec = runs.sft_spec(max_steps=40, learning_rate=0.01) | {"tuning": {"method": "full"}}
    rows = [{"prompt": "what is 1 plus 1?", "completion": "it is 2 #### 2"}] * 8
    tuned = runs.sft_run(tmp_path / "tuned", spec=spec | {"validation_file": None})
    runs.write_rows(tuned / "data/train.jsonl", rows)
    assert runs.carry_out(tuned) == 0
    root = evaluate(tmp_path / "run", rows, task="generate", max_new_tokens=24)
    shutil.rmtree(root / "model")
    (tuned / "output").rename(root / "model")
    metrics = finished(root)["metrics"]
    names = ("eval_exact_match", "eval_exact_match/flexible", "eval_parseable", "eval_finished")
    assert [metrics[name] for name in names] == [1, 1, 1, 1], items(root)


@needs_shared
def test_every_gold_answer_of_gsm8k_is_found():
    answers = [row["answer"] for row in rows_of(GSM8K / "test.jsonl.gz")]
    pattern = pattern_for(answers, "auto")
    assert pattern is not None
    assert sum(answer_in(answer, pattern) is not None for answer in answers) == len(answers) == 1319


@needs_shared
def test_grades_of_published_solutions_agree_with_their_labels():
    """Of 1,600 solutions one is labelled wrong although its answer is the gold one."""
    pattern = re.compile(r"A: (-?[0-9.,]+)")
    rows = rows_of(GSM8K / "model_solutions_first400.jsonl.gz")
    solutions = [
        (row[name], answer_in(row["ground_truth"], pattern))
        for row in rows
        for name in row
        if isinstance(row[name], dict)
    ]
    differing = [s for s, gold in solutions if grade(s["solution"], gold, pattern).correct != s["is_correct"]]
    assert (len(solutions), len(differing)) == (1600, 1)


@pytest.mark.parametrize(
    ("text", "correct", "flexible"),
    [
        ("so\n#### 1,234", True, True),
        ("so\n#### 1234.", True, True),
        ("#### 7 and then #### 1234", False, True),
        ("it costs $1,234", False, True),
        ("#### 12", False, False),
        ("", False, False),
    ],
)
def test_an_answer_counts_as_lm_eval_counts_it(text, correct, flexible):
    graded = grade(text, "1234", re.compile(GSM8K_PATTERN))
    assert (graded.correct, graded.flexible) == (correct, flexible)


def test_references_without_the_mark_are_compared_as_a_whole():
    assert pattern_for(["a #### 1", "b"], "auto") is None
    assert grade(" Paris\n", "Paris", None).correct


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"evaluation": {"temperature": 1.0}}, "belongs to task 'generate'"),
        ({"evaluation": {"task": "generate", "answer_pattern": "("}}, "no regular expression"),
        ({"evaluation": {"task": "generate", "answer_pattern": "x"}}, "has no group"),
        ({"evaluation": {"task": "generate", "max_length": 64}}, "leaves no room"),
        ({"evaluation": {"num_fewshot": 2}}, "belong together"),
        ({"fewshot_file": "file-2"}, "belong together"),
        ({"evaluation": {"task": "tokens"}}, "rows and task 'tokens' belong together"),
        ({"evaluation": {"rows": [1]}}, "rows and task 'tokens' belong together"),
        ({"evaluation": {"task": "tokens", "rows": [1, 1]}}, "line 1 is named twice"),
        ({"resources": {"max_minutes": 5}}, "max_minutes is 5; an evaluation has nothing to keep"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, told):
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python(EVAL | change)


def test_rows_that_the_task_is_not_made_for_are_an_error_of_the_spec(tmp_path):
    root = evaluate(tmp_path / "run", questions(3), task="generate", max_new_tokens=8)
    assert runs.carry_out(root) == 65
    assert runs.events(root, "failed")[0]["code"] == "wrong_task"


def compare(root: Path, rows: list[dict[str, Any]], family: str = "llama", **settings: Any) -> dict[str, Any]:
    """The metrics of a job that compares its model with one of another seed, or with itself."""
    evaluate(root, rows, **settings)
    spec = json.loads((root / "job.json").read_text())["spec"]
    runs.write_job(root, spec | {"compare_to": "tiny/2"})
    runs.save_base(root / "baseline", family)
    return finished(root)["metrics"]


def test_a_model_compared_with_itself_differs_by_nothing(tmp_path):
    metrics = compare(tmp_path / "run", runs.answers(12))
    assert metrics["compare_to/eval_loss"] == metrics["eval_loss"]
    assert [metrics[f"difference/eval_loss{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("rows", "settings", "name"),
    [
        (runs.answers(12), {}, "eval_loss"),
        (questions(12), {}, "eval_acc/harness"),
        (runs.answers(4), {"task": "generate", "max_new_tokens": 4}, "eval_finished"),
    ],
)
def test_two_models_are_told_apart_on_the_same_rows(tmp_path, rows, settings, name):
    metrics = compare(tmp_path / "run", rows, "qwen2", **settings)
    difference = metrics[f"difference/{name}"]
    assert difference == pytest.approx(metrics[name] - metrics[f"compare_to/{name}"])
    assert metrics[f"difference/{name}_low"] <= difference <= metrics[f"difference/{name}_high"]
    mine = items(tmp_path / "run")
    theirs = [item.pop("compare_to") for item in mine]
    assert [item["line"] for item in mine] == [item["line"] for item in theirs]
    assert mine != theirs


def test_models_that_score_different_rows_are_not_paired():
    one = Scores([1, 2], {"eval_loss": Figure(np.ones(2), np.ones(2))}, [])
    other = Scores([1, 3], {"eval_loss": Figure(np.ones(2), np.ones(2))}, [])
    with pytest.raises(SpecError, match="cannot be paired"):
        compared(one, other, 0)


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    [(0.0, 10, 0.0, 0.2775), (0.5, 100, 0.4038, 0.5962), (1.0, 5, 0.5655, 1.0)],
)
def test_intervals_of_shares_are_wilsons(share, count, low, high):
    assert wilson(share, count) == pytest.approx((low, high), abs=1e-4)


def test_a_paired_difference_is_surer_than_two_figures_by_themselves():
    rng = np.random.default_rng(0)
    hard = rng.normal(2, 1, 400)
    one, other = (Figure(hard + rng.normal(shift, 0.1, 400), np.ones(400)) for shift in (0.05, 0.0))
    interval = paired_difference(one, other, seed=1)
    assert interval is not None
    low, high = interval
    assert 0 < low < 0.05 < high
    shuffled = Figure(rng.permutation(other.values_N), other.weights_N)
    unpaired = paired_difference(one, shuffled, seed=1)
    assert unpaired is not None
    assert unpaired.low < 0 < unpaired.high
    assert paired_difference(one, other, seed=1) == (low, high)


def test_a_single_row_has_no_interval_of_a_difference():
    one, other = (Scores([1], {"eval_loss": Figure(np.array([loss]), np.ones(1))}, []) for loss in (1.0, 2.0))
    assert compared(one, other, 0) == {"compare_to/eval_loss": 2.0, "difference/eval_loss": -1.0}


def test_a_paired_difference_is_a_number_although_an_item_has_no_weight():
    sizes = np.array([10.0, 0.0])
    one, other = Figure(np.array([20.0, 1.0]), sizes), Figure(np.array([10.0, 1.0]), sizes)
    assert paired_difference(one, other, seed=1) == pytest.approx((1.0, 1.0))
    assert paired_difference(one, Figure(np.ones(2), np.zeros(2)), seed=1) is None
