"""Rows that are filled up to an even length, as matmuls in 16 bits are given them, score and learn as they are."""

import pytest
import torch

from engine import shape_rounding
from engine.data.corpus import Batch, batch_of
from engine.model.attention import PACKED
from engine.model.dropout import place_dropout
from engine.model.forward import labelled_states, token_score
from engine.model.logprobs import document_logprobs
from engine.parts import LoraTuning
from tests import runs
from tests.invariants.test_layers_by_hand import adapted, batch
from tests.invariants.test_prefix_sharing import ROWS, corpus_of


def model_of(family: str):
    model = runs.model(family, vocab_size=512)
    model.set_attn_implementation(PACKED)
    return model.eval()  # GPT-2's own dropout is off in this engine


def learned(model, given: Batch, score) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    losses = score(model, given)
    (losses * torch.linspace(1, 2, len(losses))).sum().backward()
    return losses.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def of_labels(model, given: Batch) -> torch.Tensor:
    return token_score(model, given).total[None]


def of_documents(model, given: Batch) -> torch.Tensor:
    return document_logprobs(model, given)[0]


def assert_filling_changes_nothing(monkeypatch, model, given: Batch, score) -> None:
    expected, wanted = learned(model, given, score)
    widths: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(shape_rounding, "step_of", lambda *_: 64)
        decoder = model.get_base_model() if hasattr(model, "get_base_model") else model
        first = decoder.get_input_embeddings().register_forward_hook(lambda _, __, out: widths.append(out.shape[-2]))
        losses, gradients = learned(model, given, score)
        first.remove()
    assert {width % 64 for width in widths} == {0}, "the row was filled"
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        off = float((gradients[name] - gradient).norm())
        assert off <= 1e-5 * max(1e-3, float(gradient.norm())), name


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_every_family_scores_and_learns_as_without(monkeypatch, family):
    assert_filling_changes_nothing(monkeypatch, model_of(family), batch(), of_labels)


def test_where_every_token_has_a_label(monkeypatch):
    tokens = batch().tokens
    assert_filling_changes_nothing(monkeypatch, model_of("llama"), batch(tuple(range(tokens))), of_labels)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_pairs_that_share_their_prompt(monkeypatch, family):
    corpus = corpus_of(ROWS)
    model = runs.model(family, vocab_size=int(corpus.ids.max()) + 1).eval()
    model.set_attn_implementation(PACKED)
    pairs = batch_of(corpus, list(range(len(corpus))))
    assert any(end > begin for begin, end in pairs.prefixes)
    assert_filling_changes_nothing(monkeypatch, model, pairs, of_documents)


def test_adapters(monkeypatch):
    assert_filling_changes_nothing(monkeypatch, adapted(model_of("llama")), batch(), of_labels)


def test_dropout_leaves_out_the_same(monkeypatch):
    from engine.model.adapters import new_adapter

    model = new_adapter(model_of("llama"), LoraTuning(lora_dropout=0.5), "base").train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    place_dropout(model, 1, batch())
    assert_filling_changes_nothing(monkeypatch, model, batch(), of_labels)


def test_in_16_bits_a_row_is_filled_and_its_states_are_the_labels_own():
    given, seen = batch(), []
    model = model_of("llama")
    model.get_input_embeddings().register_forward_hook(lambda _, __, out: seen.append(out.shape[-2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = labelled_states(model, given)
    assert seen == [shape_rounding.STEP]
    assert states.shape[0] == given.count
    labelled_states(model, given)
    assert seen == [shape_rounding.STEP, given.tokens], "in fp32 it stays as it is"


def test_a_filled_batch_asks_for_nothing_more():
    given = batch()
    filled = given.filled(64)
    assert filled.tokens == len(filled.positions_T) == 64
    assert (filled.segments, filled.first_labelled) == (given.segments, given.first_labelled)
    assert given.filled(given.tokens) is given


def test_few_lengths_are_left_and_little_is_added():
    lengths = {length: shape_rounding.rows(length, 64) for length in range(1, 4097)}
    assert len(set(lengths.values())) <= 32
    assert all(length <= filled <= max(64, length + max(63, length / 8)) for length, filled in lengths.items())
    assert shape_rounding.rows(0, 64) == 0
    assert shape_rounding.rows(1001, 1) == 1001
