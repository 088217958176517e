"""Activation checkpointing changes what is kept between the passes, and nothing that is computed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.harness.allocations import peak_of
from engine.data.corpus import Batch
from engine.loop import Training
from engine.model.attention import PACKED
from engine.model.checkpointing import Checkpointing, checkpoint_activations
from engine.model.forward import token_score
from tests import runs


def batch(tokens: int = 96, labels: int = 96) -> Batch:
    positions = torch.cat([torch.arange(tokens - 30), torch.arange(30)])
    ids = torch.arange(tokens) * 7 % 300 + 3
    first = tokens - 30
    counts = (min(labels, first), max(0, labels - first))
    return Batch(ids, positions, torch.arange(labels), ids[:labels], (first, 30), (1, 2), label_counts=counts)


def trainee(family: str, how: Checkpointing, dropout: float = 0.0) -> Any:
    model = runs.model(family).train()
    model.set_attn_implementation(PACKED)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    checkpoint_activations(model, how)
    return model


def gradients(how: Checkpointing, family: str, dropout: float = 0.0) -> torch.Tensor:
    model = trainee(family, how, dropout)
    torch.manual_seed(0)
    token_score(model, batch()).total.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def peak(how: Checkpointing) -> int:
    shape = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 6, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=400, attn_implementation=PACKED, **shape)).train()  # type: ignore[arg-type]
    checkpoint_activations(model, how)
    given = replace(batch(1024, labels=8), segments=(64,) * 16)

    def step() -> None:
        token_score(model, given).total.backward()

    return peak_of(step)


@pytest.mark.parametrize("family", ["gpt2", "mixtral"])
@pytest.mark.parametrize("how", ["selective", "full"])
def test_gradients_are_the_same_bit_for_bit(how, family):
    assert torch.equal(gradients(how, family), gradients("none", family))


@pytest.mark.parametrize("how", ["selective", "full"])
def test_gradients_are_those_of_layers_by_hand_which_keep_everything(how):
    again, by_hand = gradients(how, "llama"), gradients("none", "llama")
    assert (again - by_hand).norm() < 1e-5 * by_hand.norm()


def test_dropout_falls_on_the_same_numbers_when_a_layer_is_computed_again():
    assert torch.equal(gradients("full", "gpt2", dropout=0.1), gradients("none", "gpt2", dropout=0.1))
    assert not torch.equal(gradients("none", "gpt2", dropout=0.1), gradients("none", "gpt2"))


def test_selective_keeps_less_than_none_and_more_than_full():
    none, selective, full = (peak(how) for how in ("none", "selective", "full"))
    assert full < 0.8 * selective
    assert selective < 0.8 * none


def test_a_run_has_the_same_losses_each_way(tmp_path: Path):
    told = []
    for how in (False, "selective", True):
        spec = runs.sft_spec(precision="fp32", max_steps=3, activation_checkpointing=how)
        with runs.opened(runs.sft_run(tmp_path / str(how), spec=spec)) as session:
            Training(session, session.spec).carry_out()
        told.append(runs.losses(tmp_path / str(how)))
    assert told[0] == pytest.approx(told[1], rel=1e-6)
    assert told[1] == told[2]
