"""Layers written by hand score and learn as transformers' own modules do."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from engine.data.corpus import Batch
from engine.model import kernels, llama
from engine.model.attention import PACKED
from engine.model.forward import decoder_of, token_score
from engine.model.load import load_model
from tests import runs

FAMILIES = ("llama", "qwen2", "mistral")
LENGTHS = (3, 11, 1, 20, 8)
SOME = (1, 2, 7, 8, 9, 30, 31, 34)
"""Labels in four of five documents; the last has none."""


def batch(where: tuple[int, ...] = SOME) -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens = sum(LENGTHS)
    return Batch(
        ids_T=torch.randint(3, 400, (tokens,), generator=generator),
        positions_T=torch.cat([torch.arange(length) for length in LENGTHS]),
        labelled_N=torch.tensor(where),
        labels_N=torch.randint(3, 400, (len(where),), generator=generator),
        segments=LENGTHS,
        lines=(),
    )


def adapted(model):
    torch.manual_seed(3)
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return wrapped


def learned(model, given: Batch, *, dtype=torch.float32) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        loss = token_score(model, given).total
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gap(monkeypatch, model, given: Batch, *, dtype=torch.float32) -> float:
    """The largest difference of the loss and of any gradient, relative to its own size."""
    model.train()
    assert llama.takes(decoder_of(model))
    loss, gradients = learned(model, given, dtype=dtype)
    with monkeypatch.context() as patched:
        patched.setattr(llama, "takes", lambda _: False)
        expected_loss, expected = learned(model, given, dtype=dtype)
    assert gradients.keys() == expected.keys()
    gaps = [float((gradients[name] - e).norm() / e.norm().clamp_min(1e-6)) for name, e in expected.items()]
    return max(abs(loss / expected_loss - 1), *gaps)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("where", [SOME, tuple(range(sum(LENGTHS)))], ids=["some labels", "all labels"])
@pytest.mark.parametrize("wrap", [lambda model: model, adapted], ids=["full", "lora"])
def test_loss_and_every_gradient_equal_those_of_the_modules(monkeypatch, family, where, wrap):
    model = runs.model(family)
    model.set_attn_implementation(PACKED)
    assert gap(monkeypatch, wrap(model), batch(where)) < 1e-5


@pytest.mark.parametrize("wrap", [lambda model: model, adapted], ids=["full", "lora"])
def test_in_bf16_they_differ_by_its_rounding_alone(monkeypatch, wrap):
    model = runs.model()
    model.set_attn_implementation(PACKED)
    assert 1e-6 < gap(monkeypatch, wrap(model), batch(), dtype=torch.bfloat16) < 0.05


def test_a_base_in_4_bits_is_read_back_as_its_modules_read_it(monkeypatch, tmp_path):
    folder = runs.save_base(tmp_path / "model", width=64)
    model = adapted(load_model(folder, device=torch.device("cpu"), in_4bit=True))
    size = model.get_input_embeddings().weight.shape[0]
    given = replace(batch(), ids_T=batch().ids_T % size, labels_N=batch().labels_N % size)
    assert gap(monkeypatch, model, given) < 1e-5


def test_labels_that_the_last_layer_is_not_told_of_would_be_noticed(monkeypatch):
    model = runs.model()
    model.set_attn_implementation(PACKED)
    given = batch()
    monkeypatch.setattr(Batch, "first_labelled", property(lambda b: tuple(min(2, n) for n in b.segments)))
    assert not gap(monkeypatch, model, given) < 1e-3


@pytest.mark.parametrize("change", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_what_only_the_modules_compute_is_left_to_them(change):
    wrapped = get_peft_model(
        runs.model(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **change)
    )
    assert not llama.takes(decoder_of(wrapped))


def test_without_a_compiler_the_modules_train_and_the_run_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels.kernels.cache_clear()
    kernels.missing.cache_clear()
    try:
        assert runs.carry_out(runs.sft_run(tmp_path / "run")) == 0
    finally:
        kernels.kernels.cache_clear()
        kernels.missing.cache_clear()
    said = [event for event in runs.events(tmp_path / "run", "log") if event["code"] == "no_kernels"]
    assert "g++" in said[0]["message"]
