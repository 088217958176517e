"""One rank, two and four train the same model: same losses, same evaluations, same result, wherever a run goes on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.forecast import forecast
from engine.stop import StopFlag
from tests import runs
from tests.ranks import RUNS, SAVE_STEPS, Forked, check_same, from_checkpoint

pytestmark = pytest.mark.timeout(900)
"""All runs are made by the first test, some minutes of work where other tests run beside it."""


def of_eval(rows: list[dict[str, Any]], **settings: Any) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        evaluation = {"precision": "fp32", "max_length": 128, **settings}
        runs.write_job(root, {"kind": "eval", "model": "tiny/1", "eval_file": "file-1", "evaluation": evaluation})
        runs.write_rows(root / "data" / "eval.jsonl", rows)
        runs.save_base(root / "model")
        return root

    return make


QUESTIONS = [
    {"question": f"the cat sees {n}", "choices": ["a red dog", "the tree here", "a house"], "answer": n % 3}
    for n in range(10)
]
EVALUATIONS: dict[str, Callable[[Path], Path]] = {
    "loss": of_eval(runs.answers(41), per_device_eval_batch_size=2),
    "choices": of_eval(QUESTIONS),
    "answers": of_eval(runs.answers(9), task="generate", max_new_tokens=6, temperature=1.0),
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("ranks") / "log", zero=False) as ranks:
        yield ranks


@pytest.fixture(scope="module")
def made(tmp_path_factory, ranks) -> dict[str, dict[str, Path]]:
    """Each run on 1, 2 and 4 ranks, and begun on 2 and gone on with on 1 and on 4."""
    root = tmp_path_factory.mktemp("ranks")
    made = {name: {on: make(root / f"{name}-{on}") for on in ("1", "2", "4")} for name, make in RUNS.items()}
    made["pretrain"]["2 on the disk"] = on_disk = RUNS["pretrain"](root / "pretrain-disk")
    job = json.loads((on_disk / "job.json").read_text())
    job["spec"]["hyperparameters"]["offload_optimizer"] = "disk"
    runs.write_job(on_disk, job["spec"])
    ranks.carry_out(2, *(of["2"] for of in made.values()), on_disk)
    for name, of in made.items():
        of |= {on: from_checkpoint(of["2"], root / f"{name}-{on}") for on in ("2 then 1", "2 then 4")}
    ranks.carry_out(4, *(of[on] for of in made.values() for on in ("4", "2 then 4")))
    assert not [of for of in made.values() if runs.carry_out(of["1"]) or runs.carry_out(of["2 then 1"])]
    return made


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, ranks) -> dict[str, dict[str, Path]]:
    """Each evaluation on 1 rank and on 2."""
    root = tmp_path_factory.mktemp("evaluated")
    made = {name: {on: make(root / f"{name}-{on}") for on in ("1", "2")} for name, make in EVALUATIONS.items()}
    ranks.carry_out(2, *(of["2"] for of in made.values()))
    assert not [of for of in made.values() if runs.carry_out(of["1"])]
    return made


@pytest.mark.parametrize("on", ["2", "4", "2 then 1", "2 then 4"])
@pytest.mark.parametrize("name", RUNS)
def test_ranks_train_the_same_model(made, name, on):
    check_same(made[name]["1"], made[name][on], begun=SAVE_STEPS if "then" in on else 0)


def test_each_rank_may_have_its_optimizer_state_on_the_disk(made):
    away, here = made["pretrain"]["2 on the disk"], made["pretrain"]["2"]
    assert (away / "output" / "model.safetensors").read_bytes() == (here / "output" / "model.safetensors").read_bytes()
    told = [path.read_text() for path in (away / "events.jsonl", away / "ranks" / "1.jsonl")]
    assert all("offload_on_disk" in events for events in told)


@pytest.mark.parametrize("name", RUNS)
def test_the_rows_of_a_step_are_told_in_the_same_order(made, name):
    told = [(made[name][on] / "rows.bin").read_bytes() for on in ("1", "4")]
    lines, labels = ([[log[at + k : at + k + 4] for at in range(0, len(log), 16)] for log in told] for k in (4, 12))
    assert lines[0] == lines[1]
    assert labels[0] == labels[1]


@pytest.mark.parametrize("name", EVALUATIONS)
def test_ranks_that_share_the_rows_of_an_evaluation_come_to_its_figures(evaluated, name):
    one, two = ([*runs.events(root, "metrics")][-1]["values"] for root in evaluated[name].values())
    assert two == pytest.approx(one, rel=1e-6)
    items = [(root / "items.jsonl").read_text().splitlines() for root in evaluated[name].values()]
    assert [json.loads(line)["line"] for line in items[0]] == [json.loads(line)["line"] for line in items[1]]


@pytest.mark.parametrize("name", RUNS)
def test_a_plan_of_two_processes_counts_what_both_do(made, name, tmp_path):
    root = RUNS[name](tmp_path / "asked")
    job = json.loads((root / "job.json").read_text())
    runs.write_job(root, job["spec"] | {"resources": {"device": "cpu", "nproc_per_node": 2}})
    told = forecast(root, {"past": []}, StopFlag())
    (used,) = runs.events(made[name]["2"], "used")
    assert used["ranks"] == told["ranks"] == 2
    for figure in ("steps", "tokens", "trained_tokens"):
        assert told[figure] == used[figure]


@pytest.mark.parametrize("name", RUNS)
def test_what_is_divided_and_why_is_told(made, name):
    (told,) = [event for event in runs.events(made[name]["2"], "log") if event["code"] == "parallel_chosen"]
    assert told["message"].startswith("2 processes each hold all of the model (zero_stage 0): ")
    assert told["data"]["zero_stage"] == 0
