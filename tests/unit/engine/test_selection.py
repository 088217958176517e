"""The best step of a run, and early stopping."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.checkpoint import Progress
from engine.jobs import JOB_SPEC, resolve
from engine.parts import Checkpoints
from engine.process import carry_out
from engine.selection import Selection
from engine.stop import StopFlag
from tests import runs

SFT = {"kind": "sft", "model": "tiny", "training_file": "file-1"}
DPO = SFT | {"kind": "dpo"}


def selection(metric: str = "eval_loss", *, greater: bool = False, **rules: Any) -> Selection:
    return Selection(Checkpoints(metric_for_best_model=metric, greater_is_better=greater, **rules), Progress())


def waits(chosen: Selection, figures: list[float]) -> list[int]:
    told = []
    for figure in figures:
        chosen.evaluated({chosen.metric: figure})
        told.append(chosen.progress.evals_without_gain)
    return told


def test_evaluations_without_a_gain_are_counted_in_a_row():
    assert waits(selection(), [3.0, 2.0, 2.5, 2.0, 1.9, 2.0]) == [0, 0, 1, 2, 0, 1]


def test_where_greater_is_better_a_rise_is_the_gain():
    assert waits(selection("eval_accuracy", greater=True), [0.5, 0.6, 0.55, 0.7]) == [0, 0, 1, 0]


def test_a_gain_under_the_threshold_does_not_count_but_moves_the_bar():
    assert waits(selection(early_stopping_threshold=0.2, early_stopping_patience=9), [3.0, 2.9, 2.8, 2.5]) == [
        0,
        1,
        2,
        0,
    ]


def test_an_evaluation_that_is_no_number_is_no_gain():
    assert waits(selection(), [3.0, float("nan"), 2.0]) == [0, 1, 0]
    assert waits(selection(), [float("nan"), 3.0, 2.0, 2.5]) == [1, 0, 0, 1]
    chosen = selection()
    assert [chosen.saved({"eval_loss": loss}) for loss in (float("nan"), 2.0, 3.0)] == [False, True, False]


def test_of_equals_the_earliest_saved_step_stays_the_best():
    chosen = selection()
    assert [chosen.saved({"eval_loss": loss}) for loss in (2.0, 2.0, 1.0)] == [True, False, True]


@pytest.mark.parametrize(
    ("spec", "metric", "told"),
    [
        (SFT, "eval_accuracy", "this kind has eval_loss, eval_perplexity, eval_bits_per_byte"),
        (DPO, "eval_perplexity", "this kind has eval_loss, eval_accuracy"),
    ],
)
def test_a_metric_that_the_kind_does_not_have_is_refused_with_those_it_has(spec, metric, told):
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python(spec | {"checkpoints": {"metric_for_best_model": metric}})


def test_a_direction_against_the_metric_is_refused():
    with pytest.raises(ValidationError, match="for eval_loss, lower is better"):
        JOB_SPEC.validate_python(SFT | {"checkpoints": {"greater_is_better": True}})


def test_patience_without_held_out_rows_is_refused():
    with pytest.raises(ValidationError, match="validation_file is null"):
        JOB_SPEC.validate_python(SFT | {"validation_file": None, "checkpoints": {"early_stopping_patience": 2}})


def test_the_short_name_of_a_metric_and_its_direction_are_resolved():
    spec: Any = resolve(JOB_SPEC.validate_python(DPO | {"checkpoints": {"metric_for_best_model": "accuracy"}}))
    assert (spec.checkpoints.metric_for_best_model, spec.checkpoints.greater_is_better) == ("eval_accuracy", True)


def worsening_run(root: Path) -> Path:
    """A rate so high that no evaluation but the first brings a gain."""
    spec = runs.sft_spec(max_steps=30, learning_rate=3.0, lr_scheduler_type="constant")
    spec["checkpoints"] |= {"early_stopping_patience": 3, "save_total_limit": 1}
    return runs.sft_run(root, spec=spec)


def evaluated(root: Path) -> dict[int, float]:
    return {e["step"]: e["values"]["eval_loss"] for e in runs.events(root, "metrics") if e["split"] == "eval"}


@pytest.fixture(scope="module")
def stopped_early(tmp_path_factory) -> Path:
    root = worsening_run(tmp_path_factory.mktemp("early") / "run")
    assert runs.carry_out(root) == 0
    return root


def test_a_run_ends_when_its_patience_does_and_exports_the_best_step(stopped_early):
    losses = evaluated(stopped_early)
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 6 < 30
    assert runs.events(stopped_early, "exported")[0]["step"] == best
    told = [event["code"] for event in runs.events(stopped_early, "log")]
    assert [code for code in told if code not in {"memory_measured", "adapter_proved"}][-2:] == [
        "early_stopped",
        "load_best",
    ]


class StopAtStep(StopFlag):
    def __init__(self, root: Path, step: int) -> None:
        super().__init__()
        self.root, self.step = root, step

    def check(self) -> None:
        self.requested = max(runs.losses(self.root), default=0) == self.step
        super().check()


def test_a_run_that_goes_on_has_the_patience_it_had_left(stopped_early, tmp_path):
    root, end = worsening_run(tmp_path / "run"), max(evaluated(stopped_early))
    assert carry_out(root, StopAtStep(root, end - 1)) != 0
    assert runs.carry_out(root) == 0
    assert evaluated(root) == evaluated(stopped_early)


def test_with_the_patience_forgotten_it_goes_on_for_longer(stopped_early, tmp_path):
    root, end = worsening_run(tmp_path / "run"), max(evaluated(stopped_early))
    assert carry_out(root, StopAtStep(root, end - 1)) != 0
    path = max((root / "checkpoints").glob("step-*")) / "state" / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"evals_without_gain": 0}))
    assert runs.carry_out(root) == 0
    assert max(evaluated(root)) > end


def test_where_nothing_is_held_out_it_is_said_that_the_run_cannot_stop_early(tmp_path):
    spec = runs.sft_spec(max_steps=1)
    spec["checkpoints"] |= {"early_stopping_patience": 1}
    root = runs.sft_run(tmp_path / "run", rows=8, spec=spec)
    assert runs.carry_out(root) == 0
    assert "early_stopping_off" in [e["code"] for e in runs.events(root, "log")]
