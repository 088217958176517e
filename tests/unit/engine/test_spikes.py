"""Spikes, and the rows that are named for them."""

import math
import random
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import Progress
from engine.data.stream import Cursor, Place
from engine.errors import EXIT_DIVERGED, Diverged
from engine.journal import Journal
from engine.rowlog import RowLoss
from engine.spikes import Action, Outcome, SpikeWatch
from tests import runs

GARBAGE_LINE = 192
"""The line of garbage; it is trained on at step 45, when the other rows are learnt well."""


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "events.jsonl")
    yield opened
    opened.close()


def outcome(step: int, loss: float, grad_norm: float = 1.0, rows: tuple[RowLoss, ...] = ()) -> Outcome:
    return Outcome(step, loss, grad_norm, rows)


def watch(journal: Journal, action: Action = "warn", steps: int = 40) -> SpikeWatch:
    """A watch that has seen steps of a noisy loss of about 2."""
    made, rng = SpikeWatch(Progress(), action, journal), random.Random(0)
    assert all(made.allows(outcome(step, 2 + rng.gauss(0, 0.05), math.exp(rng.gauss(0, 0.5)))) for step in range(steps))
    return made


def alarms(root: Path) -> list[dict[str, Any]]:
    return [event["data"] for event in runs.events(root, "log") if event["code"] == "loss_spike"]


def test_noise_raises_no_alarm(journal, tmp_path):
    watch(journal, steps=1000)
    journal.log("info", "end", "")
    assert not alarms(tmp_path)


def test_a_jump_of_the_loss_is_told_with_the_rows_that_lose_most_first(journal, tmp_path):
    rows = (RowLoss(3, 1.9, 7), RowLoss(5, 9.0, 7), RowLoss(4, 2.1, 7))
    assert watch(journal).allows(outcome(40, 4.0, rows=rows))
    (told,) = alarms(tmp_path)
    assert (told["step"], told["loss"]) == (40, 4.0)
    assert told["expected"] == pytest.approx(2, abs=0.05)
    assert [row["line"] for row in told["rows"]] == [5, 4, 3]


def test_of_several_files_a_row_is_named_with_its_own(journal, tmp_path):
    made = watch(journal)
    made.files = ("file-a", "file-b")
    assert made.allows(outcome(40, 4.0, rows=(RowLoss(3, 1.9, 7, file=0), RowLoss(3, 9.0, 7, file=1))))
    (event,) = runs.events(tmp_path, "log")
    assert [(row["file"], row["line"]) for row in event["data"]["rows"]] == [("file-b", 3), ("file-a", 3)]
    assert event["message"].endswith("lose most: 3 of file-b (9), 3 of file-a (1.9)")
    with pytest.raises(Diverged, match=r"are from lines 3 of file-b$"):
        made.allows(outcome(41, math.nan, rows=(RowLoss(3, 1.9, 7, file=0), RowLoss(3, math.nan, 7, file=1))))


@pytest.mark.parametrize("file", [0, 1])
def test_the_first_step_on_other_files_is_not_held_against_the_ones_before(journal, file: int):
    """As the tail of a mixture begins: nothing was drawn from its files so far."""
    made = watch(journal, "stop")
    made.progress.cursor = Cursor(40, (Place(tokens=900), Place()))
    changed = outcome(40, 4.0, rows=(RowLoss(3, 4.0, 7, file=file),))
    if file:
        assert made.allows(changed)
        assert (made.progress.recent_losses, made.progress.recent_log_norms) == ([4.0], [0.0])
    else:
        with pytest.raises(Diverged):
            made.allows(changed)


def test_a_jump_of_the_gradient_alone_is_told(journal, tmp_path):
    assert watch(journal).allows(outcome(40, 2.0, grad_norm=500.0))
    assert alarms(tmp_path)[0]["grad_norm"] == 500.0


def test_a_new_level_is_the_usual_one_after_a_while(journal, tmp_path):
    made = watch(journal)
    for step in range(40, 140):
        made.allows(outcome(step, 4.0))
    assert max(told["step"] for told in alarms(tmp_path)) < 120


@pytest.mark.parametrize("action", ["warn", "skip", "stop"])
def test_after_steps_without_a_gradient_the_next_one_that_has_one_is_no_spike(journal, tmp_path, action: Action):
    """As by hinge DPO, once every pair's margin is wide enough."""
    made = SpikeWatch(Progress(), action, journal)
    assert all(made.allows(outcome(step, 0.0, grad_norm=0.0)) for step in range(20))
    assert made.allows(outcome(20, 0.05, grad_norm=0.2))
    assert not alarms(tmp_path)


def test_steps_without_a_gradient_between_others_hide_no_spike(journal):
    made = watch(journal, "skip")
    assert all(made.allows(outcome(step, 0.0, grad_norm=0.0)) for step in range(40, 60))
    assert not made.allows(outcome(60, 4.0))


def test_skip_leaves_the_update_out_and_stop_ends_the_run(journal):
    assert not watch(journal, "skip").allows(outcome(40, 4.0))
    with pytest.raises(Diverged, match="the loss is 4, and was about"):
        watch(journal, "stop").allows(outcome(40, 4.0))


def test_of_a_step_that_is_no_number_only_the_rows_to_blame_are_named(journal):
    rows = (RowLoss(3, 1.9, 7), RowLoss(5, math.nan, 7))
    with pytest.raises(Diverged, match=r"the rows whose own loss is not a number are from lines 5$"):
        watch(journal).allows(outcome(40, math.nan, rows=rows))


def garbage_run(root: Path, *, garbage: bool, **hyperparameters: Any) -> Path:
    """A run on rows of one short language, and one row whose answer is quite different."""
    spec = runs.sft_spec(
        max_steps=60, learning_rate=0.003, packing=False, per_device_train_batch_size=4, **hyperparameters
    )
    spec |= {"validation_file": None, "tuning": {"method": "full"}, "checkpoints": {"save_steps": 20}}
    rows = [{"prompt": "the cat", "completion": " sees the dog and the house."} for _ in range(240)]
    if garbage:
        rows[GARBAGE_LINE - 1] = {"prompt": "the cat", "completion": "0 9 8 7? plus 7 7 3 is, 6 2 9 1"}
    runs.sft_run(root, spec=spec)
    runs.write_rows(root / "data" / "train.jsonl", rows)
    return root


def test_a_clean_run_raises_no_alarm(tmp_path):
    root = garbage_run(tmp_path / "run", garbage=False)
    assert runs.carry_out(root) == 0
    assert not alarms(root)


def test_a_row_of_garbage_is_caught_and_named_first_and_its_update_left_out(tmp_path):
    root = garbage_run(tmp_path / "run", garbage=True, on_loss_spike="skip")
    assert runs.carry_out(root) == 0
    (told,) = alarms(root)
    assert told["rows"][0]["line"] == GARBAGE_LINE
    assert told["rows"][0]["loss"] > 4 * told["rows"][1]["loss"]
    skipped = [e["step"] for e in runs.events(root, "metrics") if e["values"].get("skipped")]
    assert skipped == [told["step"]]


def test_where_a_spike_is_to_stop_the_run_it_ends_as_diverged(tmp_path):
    root = garbage_run(tmp_path / "run", garbage=True, on_loss_spike="stop")
    assert runs.carry_out(root) == EXIT_DIVERGED
    failed = runs.events(root, "failed")[0]
    assert failed["code"] == "loss_spike"
    assert f"lose most: {GARBAGE_LINE} (" in failed["message"]
