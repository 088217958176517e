"""ZeRO divides what a run holds among its ranks, and the model that they train is the one of a single process."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.ranks import RUNS, SAVE_STEPS, check_same, finished, from_checkpoint

DIVIDED = {
    "sft full": (1, 2, 3),
    "sft qlora": (2,),
    "sft lora": (3,),
}


def divided(root: Path, stage: int) -> Path:
    spec = json.loads((root / "job.json").read_text())["spec"]
    return runs.write_job(root, spec | {"resources": {"device": "cpu", "parallel": {"zero_stage": stage}}})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, dict[Any, Path]]:
    """Each run alone and divided; begun alone and gone on with divided, and the other way round."""
    root = tmp_path_factory.mktemp("zero")
    made: dict[str, dict[Any, Path]] = {}
    for name, stages in DIVIDED.items():
        alone = RUNS[name](root / f"{name} alone")
        assert runs.carry_out(alone) == 0
        made[name] = {"alone": alone}
        made[name] |= {stage: divided(RUNS[name](root / f"{name} {stage}"), stage) for stage in stages}
        made[name]["later"] = divided(from_checkpoint(alone, root / f"{name} later"), stages[-1])
    finished(runs.start_ranks(2, *(run for of in made.values() for how, run in of.items() if how != "alone")))
    for name, stages in DIVIDED.items():
        made[name]["at first"] = from_checkpoint(made[name][stages[-1]], root / f"{name} at first")
        assert runs.carry_out(made[name]["at first"]) == 0
    return made


@pytest.mark.parametrize(("name", "stage"), [(name, stage) for name, stages in DIVIDED.items() for stage in stages])
def test_a_divided_run_trains_the_model_of_one_process(made, name, stage):
    check_same(made[name]["alone"], made[name][stage])


@pytest.mark.parametrize("how", ["later", "at first"])
@pytest.mark.parametrize("name", DIVIDED)
def test_a_run_may_be_divided_later_or_at_first(made, name, how):
    check_same(made[name]["alone"], made[name][how], begun=SAVE_STEPS)


@pytest.mark.parametrize("name", DIVIDED)
def test_what_is_told_of_the_model_is_told_of_all_of_it(made, name):
    alone, other = (runs.events(made[name][how], "started")[0] for how in ("alone", DIVIDED[name][-1]))
    for figure in ("parameters", "trainable_parameters"):
        assert other[figure] == alone[figure]
