"""ZeRO divides what a run holds among its ranks, and the model that they train is the one of a single process."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.dist.choice import divide_model
from tests import runs
from tests.ranks import MADE, SAVE_STEPS, Forked, check_same, from_checkpoint, sft

pytestmark = pytest.mark.timeout(900)
"""All runs are made by the first test, some minutes of work where other tests run beside it."""

DIVIDED = {
    "pretrain": (2,),
    "pretrain experts": (3,),
    "sft full": (1, 2, 3),
    "sft qlora": (2,),
    "sft lora": (3,),
    "dpo full": (3,),
    "dpo lora": (3,),
}
ON_FOUR = tuple(DIVIDED) if os.environ.get("TRAINYARD_RANKS") == "all" else ("sft full", "sft lora")
"""On two processes all kinds are tried in every run; on four, which take their time on two cores, by `make ranks`."""
CASES = [
    (name, stage, count)
    for name, stages in DIVIDED.items()
    for stage in stages
    for count in ((2, 4) if name in ON_FOUR else (2,))
]
MOVED = {name: stages[-1] for name, stages in DIVIDED.items() if name in ON_FOUR and "dpo" not in name}
"""Runs that go on, at this stage, on other ranks than they were begun on: none of that knows what it trains on."""
MOVES = ((1, 2), (2, 1), (2, 4), (4, 2))
Made = dict[tuple[str, int, int], Path]
"""Each run by how many ranks carry it out, and at which stage; one rank divides nothing."""
Moved = dict[tuple[str, int, int], Path]
"""Each by how many ranks it was begun on, and how many go on with it."""


def divided(root: Path, stage: int) -> Path:
    spec = json.loads((root / "job.json").read_text())["spec"]
    return runs.write_job(root, spec | {"resources": {"device": "cpu", "parallel": {"zero_stage": stage}}})


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("ranks") / "log") as ranks:
        yield ranks


@pytest.fixture(scope="module")
def made(tmp_path_factory, ranks) -> Made:
    root = tmp_path_factory.mktemp("zero")
    made = {(name, 1, 0): MADE[name](root / f"{name} 1") for name in DIVIDED}
    made |= {
        (name, count, stage): divided(MADE[name](root / f"{name} {count} at {stage}"), stage)
        for name, stage, count in CASES
    }
    assert not [name for name in DIVIDED if runs.carry_out(made[name, 1, 0])]
    for count in (2, 4):
        ranks.carry_out(count, *(made[name, on, stage] for name, stage, on in CASES if on == count))
    return made


@pytest.fixture(scope="module")
def moved(tmp_path_factory, ranks, made) -> Moved:
    root = tmp_path_factory.mktemp("moved")
    moved: Moved = {}
    for name, stage in MOVED.items():
        for begun_on, count in MOVES:
            begun = made[name, begun_on, stage if begun_on > 1 else 0]
            moved[name, begun_on, count] = divided(from_checkpoint(begun, root / f"{name} {begun_on} {count}"), stage)
    assert not [name for name in MOVED if runs.carry_out(moved[name, 2, 1])]
    for count in (2, 4):
        ranks.carry_out(count, *(gone_on for (*_, on), gone_on in moved.items() if on == count))
    return moved


@pytest.mark.parametrize(("name", "stage", "count"), CASES)
def test_a_divided_run_trains_the_model_of_one_process(made, name, stage, count):
    check_same(made[name, 1, 0], made[name, count, stage])


@pytest.mark.parametrize("name", DIVIDED)
def test_what_is_told_of_the_model_is_told_of_all_of_it(made, name):
    alone, other = (runs.events(made[name, *how], "started")[0] for how in ((1, 0), (2, DIVIDED[name][-1])))
    for figure in ("parameters", "trainable_parameters"):
        assert other[figure] == alone[figure]


@pytest.mark.parametrize(("begun_on", "count"), MOVES)
@pytest.mark.parametrize("name", MOVED)
def test_a_run_goes_on_on_other_ranks_than_it_was_begun_on(made, moved, name, begun_on, count):
    check_same(made[name, 1, 0], moved[name, begun_on, count], begun=SAVE_STEPS)


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ".*(q_proj|lm_head)"], ids=["names", "a pattern"])
def test_weights_are_not_divided_where_the_job_goes_on_from_an_adapter_of_the_head(tmp_path, ranks, targets):
    """Its weights would be fetched once for each chunk of labels, of which ranks do not have equally many."""
    given = {"method": "lora", "r": 4, "target_modules": ["q_proj", "lm_head"]}
    first = sft(given, max_steps=1)(tmp_path / "first")
    assert runs.carry_out(first) == 0
    root = divided(sft({"method": "lora"})(tmp_path / "run"), 3)
    shutil.copytree(first / "output", root / "adapter")
    config = root / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": targets}))
    with pytest.raises(AssertionError):
        ranks.carry_out(2, root)
    failed = runs.events(root)[-1]
    assert (failed["type"], failed["code"]) == ("failed", "zero_3_with_adapted_head")


def test_deepspeed_works_on_the_device_of_the_run(tmp_path, ranks):
    """Whatever else the machine has: by itself it takes a GPU that it finds."""
    root = divided(MADE["sft lora"](tmp_path / "run"), 2)
    (root / "ranks").mkdir()
    assert ranks.told(device_of_deepspeed, 2, root) == [["cpu", False]] * 2


def device_of_deepspeed(root: str) -> tuple[str, bool]:
    """The accelerator that DeepSpeed is to use, and whether it scatters what it reduces, which gloo does not."""
    del os.environ["DS_ACCELERATOR"]
    torch.cuda.is_available = lambda: True
    with runs.opened(Path(root)) as session:
        spec: Any = session.spec
        strategy: Any = divide_model(session, spec)
    return os.environ["DS_ACCELERATOR"], strategy.zero.reduce_scatter
