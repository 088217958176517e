"""Samples in training: prompts are answered at every evaluation, and the run is bitwise the run without them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from engine.jobs import JOB_SPEC
from tests import runs

ASKED = {"prompts": ["the cat sees", "what is a dog?"], "max_new_tokens": 6}


def spec(**changes: Any) -> dict[str, Any]:
    return runs.sft_spec() | {"tuning": {"method": "lora", "r": 4, "lora_dropout": 0.2}} | changes


def carried_out(root: Path, given: dict[str, Any]) -> Path:
    runs.sft_run(root, spec=given)
    assert runs.carry_out(root) == 0, runs.events(root, "failed")
    return root


def outcome(root: Path) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    return runs.losses(root), load_file(root / "output/adapter_model.safetensors")


def same(one: Path, other: Path) -> bool:
    (losses, weights), (other_losses, other_weights) = outcome(one), outcome(other)
    return losses == other_losses and all(torch.equal(weights[name], other_weights[name]) for name in weights)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return carried_out(tmp_path_factory.mktemp("plain") / "run", spec())


def test_a_run_with_samples_is_bitwise_the_run_without(plain, tmp_path):
    sampled = carried_out(tmp_path / "run", spec(samples=ASKED))
    assert same(plain, sampled)
    told = runs.events(sampled, "sample")
    assert [(event["step"], event["prompt"]) for event in told] == [(s, p) for s in (2, 4, 6) for p in ASKED["prompts"]]
    assert all(event["greedy"] != event["sampled"] for event in told)


def test_pretraining_continues_its_prompts_and_greedy_alone_is_one_answer(tmp_path):
    root = runs.pretrain_run(tmp_path / "run", max_steps=2)
    job = runs.RunDirectory(root).read_job()["spec"]
    runs.write_job(root, job | {"samples": ASKED | {"temperature": 0}})
    assert runs.carry_out(root) == 0, runs.events(root, "failed")
    told = runs.events(root, "sample")
    assert [event["prompt"] for event in told] == ASKED["prompts"]
    assert all(event["sampled"] is None and event["greedy"] for event in told)


def test_an_answer_longer_than_a_row_is_refused():
    with pytest.raises(ValidationError, match=r"must be below hyperparameters\.max_length"):
        JOB_SPEC.validate_python(spec(samples=ASKED | {"max_new_tokens": 64}))
