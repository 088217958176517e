"""What a run does beside its steps is foretold too: evaluations, references, samples; and when its time is over."""

from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.invariants.test_forecast import dpo, foretold, sft


def effort_of(root: Path) -> dict[str, dict[str, float]]:
    """What a run took; it is what was foretold, where nothing ends it early."""
    assert runs.carry_out(root) == 0
    (used,) = runs.events(root, "used")
    return used["effort"]


@pytest.mark.parametrize("reference", ["disabled_adapter", "frozen_copy"])
def test_a_reference_that_goes_along_is_scored_in_evaluations_too(tmp_path, reference):
    cached = foretold(dpo(tmp_path / "cached"))["effort"]
    root = runs.dpo_run(tmp_path / "along", spec=runs.dpo_spec() | {"dpo": {"reference": reference}})
    told = foretold(root)["effort"]
    assert told["scoring"]["flops"] == pytest.approx(2 * cached["scoring"]["flops"])
    taken = effort_of(root)
    assert all(effort == pytest.approx(taken[part]) for part, effort in told.items())


def test_samples_are_a_part_of_their_own(tmp_path):
    asked = {"prompts": ["the cat", "a dog sees"], "max_new_tokens": 8}
    plain = foretold(sft(tmp_path / "plain"))
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec() | {"samples": asked})
    told = foretold(root)
    assert told["effort"]["samples"]["passes"] == pytest.approx(3 * 2 * 8 * 2 / 3), "evaluations, ways, tokens, layers"
    assert told["eta"]["expected"] > plain["eta"]["expected"]
    assert {**told["effort"], "samples": plain["effort"]["samples"]} == plain["effort"]
    assert effort_of(root)["samples"] == pytest.approx(told["effort"]["samples"])
    (used,) = runs.events(root, "used")
    assert used["part_seconds"]["samples"] > 0


def test_a_run_that_ends_early_tells_of_the_evaluations_that_took_place(tmp_path):
    spec = runs.sft_spec(max_steps=40, learning_rate=0.0)
    rules = {"save_steps": 0.1, "eval_steps": 0.1, "early_stopping_patience": 1}
    root = runs.sft_run(tmp_path / "run", spec=spec | {"checkpoints": rules})
    told = foretold(root)["effort"]
    taken = effort_of(root)
    (used,) = runs.events(root, "used")
    assert used["steps"] == 8
    assert taken["scoring"]["flops"] == pytest.approx(2 / 10 * told["scoring"]["flops"])
    assert 0 < taken["around"]["written"] < 0.5 * told["around"]["written"]


def test_runs_from_before_samples_were_counted_are_still_learned_from(tmp_path):
    told = foretold(sft(tmp_path / "run"))
    past = {"device": "cpu", "precision": told["spec"]["hyperparameters"]["precision"], "method": "lora"}
    past |= {"effort": {name: told["effort"][name] for name in ("steps", "scoring", "around")}, "seconds": 50.0}
    past |= {"part_seconds": {"steps": 40.0, "scoring": 5.0}, "runtime_bytes": 1 << 28}
    assert foretold(tmp_path / "run", [past] * 9)["eta"]["expected"] == pytest.approx(50.0, rel=0.1)


def test_a_run_is_planned_to_end_when_its_time_is_over(tmp_path):
    """What comes around its steps, here 10 seconds, is not counted among its minutes."""
    alike = foretold(runs.sft_run(tmp_path / "alike"))
    past = {"device": "cpu", "precision": alike["spec"]["hyperparameters"]["precision"], "method": "lora"}
    past |= {"effort": alike["effort"], "part_seconds": {"steps": 480.0, "scoring": 10.0}, "seconds": 500.0}
    past |= {"runtime_bytes": 1 << 28}

    def planned(minutes: float, known: int = 9) -> dict[str, Any]:
        spec = runs.sft_spec() | {"resources": {"max_minutes": minutes}}
        return foretold(runs.sft_run(tmp_path / str(minutes), spec=spec), [past] * known)

    ample, short, unsure = planned(60), planned(2), planned(6, known=4)
    assert (ample["exact"], short["exact"]) == (True, False)
    assert unsure["eta"]["low"] < 300, "it may be in time, of which too few runs tell"
    assert not unsure["exact"]
    assert ample["eta"]["expected"] == pytest.approx(500, rel=0.1)
    assert short["steps"] == ample["steps"]
    for name in ("expected", "low", "high"):
        assert short["eta"][name] == pytest.approx(130, rel=0.1)
