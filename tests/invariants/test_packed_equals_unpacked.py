"""Documents that share a row score and learn as they do by themselves."""

import pytest
import torch

from engine.data.corpus import Batch
from engine.model.attention import PACKED
from engine.model.forward import backbone_of, head_of, token_score
from tests import runs

LENGTHS = (3, 11, 1, 20, 8)


def documents(vocab_size: int = 400) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, vocab_size, (length + 1,), generator=generator) for length in LENGTHS]


def packed(parts: list[torch.Tensor], segments: tuple[int, ...] | None = None) -> Batch:
    positions = torch.cat([torch.arange(len(part) - 1) for part in parts])
    return Batch(
        ids_T=torch.cat([part[:-1] for part in parts]),
        positions_T=positions,
        labelled_N=torch.arange(len(positions)),
        labels_N=torch.cat([part[1:] for part in parts]),
        segments=segments or tuple(len(part) - 1 for part in parts),
        lines=(),
    )


def stock_logits(model, parts: list[torch.Tensor]) -> torch.Tensor:
    """transformers' own attention and head, one document at a time."""
    model.set_attn_implementation("eager")
    out = torch.cat([model(input_ids=part[None, :-1], use_cache=False).logits[0] for part in parts])
    model.set_attn_implementation(PACKED)
    return out


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_packed_logits_equal_those_of_each_document_alone(family):
    model = runs.model(family).eval()
    parts = documents()
    expected = stock_logits(model, parts)
    with torch.no_grad():
        ours = head_of(model)(backbone_of(model, packed(parts)))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_packed_loss_and_gradients_equal_those_of_each_document_alone(family):
    model, parts = runs.model(family).eval(), documents()
    labels = torch.cat([part[1:] for part in parts])
    expected = torch.nn.functional.cross_entropy(stock_logits(model, parts), labels, reduction="sum")
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    loss, count = token_score(model, packed(parts))[:2]
    loss.backward()
    assert count == sum(LENGTHS)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    for name, parameter in model.named_parameters():
        scale = gradients[name].abs().max()
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5 * max(1.0, float(scale)))


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_without_the_segment_table_the_logits_differ(family):
    model = runs.model(family).eval()
    model.set_attn_implementation(PACKED)
    parts = documents()
    with torch.no_grad():
        right = head_of(model)(backbone_of(model, packed(parts)))
        wrong = head_of(model)(backbone_of(model, packed(parts, segments=(sum(LENGTHS),))))
    assert float((right - wrong).abs().max()) > 0.05


def test_packing_on_and_off_learn_from_the_same_labels(tmp_path):
    from engine.data.source import read_source
    from engine.data.stream import RowStream
    from tests.runs import chat_corpus

    rows = read_source(runs.write_rows(tmp_path / "train.jsonl", runs.answers(30)), "fine-tune")
    tokenizer = runs.tokenizer()
    corpus = chat_corpus(rows, tokenizer, max_length=64, long_rows="truncate").corpus
    model = runs.model(vocab_size=len(tokenizer)).eval()
    model.set_attn_implementation(PACKED)
    totals = []
    for packing in (True, False):
        stream = RowStream(corpus, seed=3, row_tokens=64, step_rows=(4, 1), packing=packing)
        total, count = 0.0, 0
        while stream.epoch() < 1:
            for batch in stream.next_step():
                with torch.no_grad():
                    loss, labels = token_score(model, batch)[:2]
                total, count = total + float(loss), count + labels
        totals.append((total, count))
    (packed_total, packed_count), (single_total, single_count) = totals
    assert packed_count == single_count == corpus.labels()
    assert packed_total == pytest.approx(single_total, rel=1e-5)
