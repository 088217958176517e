"""The log of every row's loss at every step."""

import io
from pathlib import Path

import pytest
import torch

from engine.data.corpus import batch_of
from engine.rowlog import NAME, RowLog, RowLoss, last_step, rows_of_step
from tests import runs


def log_of(path: Path, steps: dict[int, list[RowLoss]]) -> RowLog:
    log = RowLog(path, None)
    for step, rows in steps.items():
        log.append(step, rows)
    return log


STEPS = {step: [RowLoss(line, line / step, 3, file=line % 128) for line in range(step)] for step in range(1, 40)}


def test_the_rows_of_every_step_are_found_again(tmp_path):
    log = log_of(tmp_path / "log", STEPS)
    with log.path.open("rb") as file:
        assert last_step(file) == 39
        for step, rows in STEPS.items():
            found = rows_of_step(file, step)
            assert [(row.line, row.labels, row.file) for row in found] == [(row.line, 3, row.file) for row in rows]
            assert [row.loss for row in found] == pytest.approx([row.loss for row in rows], rel=1e-6)


@pytest.mark.parametrize("step", [0, 40])
def test_a_step_that_is_not_there_has_no_rows(tmp_path, step):
    log = log_of(tmp_path / "log", STEPS)
    with log.path.open("rb") as file:
        assert rows_of_step(file, step) == []


def test_an_empty_log_has_no_last_step():
    assert last_step(io.BytesIO()) is None


def test_a_log_goes_on_from_what_was_kept_and_forgets_what_came_after(tmp_path):
    log_of(tmp_path / "kept", {1: [RowLoss(1, 1.0, 1)]})
    log_of(tmp_path / "log", {1: [RowLoss(1, 1.0, 1)], 2: [RowLoss(2, 9.0, 1)]})
    RowLog(tmp_path / "log", tmp_path / "kept").append(2, [RowLoss(2, 2.0, 1)])
    with (tmp_path / "log").open("rb") as file:
        assert rows_of_step(file, 2) == [RowLoss(2, 2.0, 1)]


def whole_log(root: Path) -> Path:
    return max((root / "checkpoints").glob("step-*")) / "state" / NAME


@pytest.mark.parametrize("make", [runs.sft_run, runs.dpo_run, runs.pretrain_run])
def test_the_losses_of_a_step_s_rows_make_up_its_loss(tmp_path, make):
    root = make(tmp_path / "run")
    assert runs.carry_out(root) == 0
    with whole_log(root).open("rb") as file:
        assert last_step(file) == 6
        for step, loss in runs.losses(root).items():
            rows = rows_of_step(file, step)
            mean = sum(row.loss * row.labels for row in rows) / sum(row.labels for row in rows)
            assert mean == pytest.approx(loss, rel=1e-5)


def test_a_row_s_loss_is_what_it_scores_alone(tmp_path):
    """A run at a rate of 0, so that every step has the starting weights."""
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(learning_rate=0.0, max_steps=2))
    assert runs.carry_out(root) == 0
    with whole_log(root).open("rb") as file:
        logged = rows_of_step(file, 1)
    assert len(logged) > 1
    (tmp_path / "again").mkdir()
    for name in ("job.json", "data", "model"):
        (root / name).rename(tmp_path / "again" / name)
    with runs.opened(tmp_path / "again") as session, torch.no_grad():
        corpus = session.rows.probe(1000)
        for row in logged:
            alone = batch_of(corpus, [corpus.lines.tolist().index(row.line)])
            scored = session.loss(alone)
            assert row.labels == scored.counted
            assert row.loss == pytest.approx(float(scored.total) / scored.counted, rel=1e-4)
