"""A job that goes on from another's checkpoint, with the optimizer's state or without."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import EXIT_DATA, EXIT_OK
from engine.loop import Training
from tests import runs

STEPS = 6
TENSORS = "state/trainer.pt"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run of its own."""
    root = tmp_path_factory.mktemp("first")
    runs.pretrain_run(root, max_steps=STEPS)
    assert runs.carry_out(root) == EXIT_OK
    return root / f"checkpoints/step-{STEPS:08d}"


def go_on(root: Path, first: Path, **changes: Any) -> Path:
    """A run from the first one's weights, as the service lays it out."""
    runs.pretrain_run(root, max_steps=STEPS)
    job = json.loads((root / "job.json").read_text())
    hyper = job["spec"].pop("hyperparameters") | changes.pop("hyperparameters", {})
    job["spec"] |= {"model": "ckpt-1", "hyperparameters": hyper} | changes
    (root / "job.json").write_text(json.dumps(job))
    shutil.copytree(first, root / "model", ignore=shutil.ignore_patterns("state"))
    shutil.copytree(first / "state", root / "continued/state")
    return root


def optimizer(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint / TENSORS, weights_only=True)["optimizer"]


def steps_counted(checkpoint: Path) -> set[float]:
    return {float(state["step"]) for state in optimizer(checkpoint).values()}


@pytest.fixture(scope="module")
def in_8_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run whose optimizer keeps its state in 8 bits."""
    root = tmp_path_factory.mktemp("8 bits")
    runs.pretrain_run(root, max_steps=STEPS, optim="adamw_8bit")
    assert runs.carry_out(root) == EXIT_OK
    return root / f"checkpoints/step-{STEPS:08d}"


@pytest.mark.parametrize(("state", "counted"), [("kept", 2 * STEPS), ("fresh", STEPS)])
def test_the_moments_are_kept_or_begin_anew_as_asked(first: Path, tmp_path: Path, state: str, counted: int) -> None:
    root = go_on(tmp_path, first, optimizer_state=state)
    assert runs.carry_out(root) == EXIT_OK
    assert steps_counted(root / first.relative_to(first.parents[1])) == {counted}
    assert list(runs.losses(root)) == list(range(1, STEPS + 1))


def as_bitsandbytes_has_it(checkpoint: Path) -> None:
    """Rewrite a checkpoint's state as earlier versions saved it: its 8-bit tensors in a dict of their own."""
    saved = torch.load(checkpoint / TENSORS, weights_only=True)
    for name, state in saved["optimizer"].items():
        saved["optimizer"][name] = {"step": state.pop("step"), "__bnb_optimizer_quant_state__": state}
    torch.save(saved, checkpoint / TENSORS)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(("state", "counted"), [("kept", 2 * STEPS), ("fresh", STEPS)])
def test_moments_in_8_bits_are_kept_or_begin_anew_as_asked(
    in_8_bits: Path, tmp_path: Path, state: str, counted: int, earlier: bool
) -> None:
    root = go_on(tmp_path, in_8_bits, optimizer_state=state, hyperparameters={"optim": "adamw_8bit"})
    if earlier:
        as_bitsandbytes_has_it(root / "continued")
    assert runs.carry_out(root) == EXIT_OK
    assert steps_counted(root / in_8_bits.relative_to(in_8_bits.parents[1])) == {counted}
    assert list(runs.losses(root)) == list(range(1, STEPS + 1))


def test_the_moments_change_what_is_learnt(first: Path, tmp_path: Path) -> None:
    losses = {}
    for state in ("kept", "fresh"):
        root = go_on(tmp_path / state, first, optimizer_state=state)
        assert runs.carry_out(root) == EXIT_OK
        losses[state] = runs.losses(root)
    assert losses["kept"][1] == losses["fresh"][1]  # before the first update
    assert losses["kept"][STEPS] != losses["fresh"][STEPS]


def test_the_betas_and_the_decay_are_those_of_the_new_job(first: Path, tmp_path: Path) -> None:
    root = go_on(tmp_path, first, optimizer_state="kept", hyperparameters={"adam_beta2": 0.9, "weight_decay": 0.5})
    with runs.opened(root) as session:
        spec: Any = session.spec
        matrices, *_ = Training(session, spec).strategy.optimizer.param_groups
    assert (matrices["betas"][1], matrices["weight_decay"]) == (0.9, 0.5)


def test_moments_in_8_bits_are_refused_to_an_optimizer_in_32(in_8_bits: Path, tmp_path: Path) -> None:
    root = go_on(tmp_path, in_8_bits, optimizer_state="kept")
    assert runs.carry_out(root) == EXIT_DATA
    assert runs.events(root)[-1]["code"] == "optimizer_state_mismatch"


@pytest.mark.parametrize("changes", [{"hyperparameters": {"optim": "adamw_8bit"}}, {"tuning": {"method": "lora"}}])
def test_moments_of_another_optimizer_or_of_other_weights_are_refused(
    first: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    root = go_on(tmp_path, first, optimizer_state="kept", **changes)
    assert runs.carry_out(root) == EXIT_DATA
    assert runs.events(root)[-1]["code"] == "optimizer_state_mismatch"


def test_a_job_that_was_interrupted_goes_on_from_its_own_checkpoint(first: Path, tmp_path: Path) -> None:
    whole = go_on(tmp_path / "whole", first, optimizer_state="kept")
    again = go_on(tmp_path / "again", first, optimizer_state="kept")
    assert runs.carry_out(whole) == EXIT_OK
    shutil.copytree(whole / "checkpoints", again / "checkpoints")
    for step in (4, 5, 6):
        shutil.rmtree(again / f"checkpoints/step-{step:08d}", ignore_errors=True)
    assert runs.carry_out(again) == EXIT_OK
    assert steps_counted(again / first.relative_to(first.parents[1])) == {2 * STEPS}
