"""What the answers of a pair begin with is computed once, and nothing else changes by it."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.data.chat import ensure_chat_template
from engine.data.corpus import Batch, Corpus, batch_of
from engine.data.pairs import pair_corpus
from engine.data.source import SourceRow
from engine.model.attention import PACKED
from engine.model.logprobs import document_logprobs
from engine.rows import parse_row
from tests import runs

BARE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
"""A template that puts nothing between prompt and answer: their tokens may merge."""
ROWS = [
    *runs.pairs(4),
    {"prompt": "the cat sees", "chosen": "a dog here", "rejected": "a dog there"},
    {"prompt": "the cat", "chosen": "the red house", "rejected": "the red"},
    {"prompt": "the cat", "chosen": "the", "rejected": "the red house"},
]


def corpus_of(rows: list[dict[str, Any]], template: str | None = None) -> Corpus:
    tokenizer = runs.tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    ensure_chat_template(tokenizer)
    source = [SourceRow(line, parse_row(row, "preference")) for line, row in enumerate(rows, 1)]
    return pair_corpus(source, tokenizer, max_length=256, long_rows="truncate").corpus


def whole(corpus: Corpus) -> Batch:
    return batch_of(corpus, list(range(len(corpus))))


def learned(model, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(log-probabilities of the answers, what a loss that weighs each differently leaves on every weight)."""
    model.zero_grad()
    scores, _ = document_logprobs(model, batch)
    weights = torch.linspace(-1, 2, len(scores))
    (scores * weights).sum().backward()
    return scores.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def model_of(family: str, corpus: Corpus):
    model = runs.model(family, vocab_size=int(corpus.ids.max()) + 1).eval()
    model.set_attn_implementation(PACKED)
    return model


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_shared_prompts_score_and_learn_as_repeated_ones(family):
    corpus = corpus_of(ROWS)
    model = model_of(family, corpus)
    shared, repeated = whole(corpus), whole(replace(corpus, shared=None))
    assert shared.tokens < 0.75 * repeated.tokens
    (ours, our_grads), (theirs, their_grads) = learned(model, shared), learned(model, repeated)
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-5)
    for name, grad in their_grads.items():
        assert float((our_grads[name] - grad).abs().max()) < 1e-5 * max(1.0, float(grad.abs().max())), name


def test_under_bf16_they_differ_by_no_more_than_its_rounding():
    corpus = corpus_of(ROWS)
    model = model_of("llama", corpus)
    exact, grads = learned(model, whole(corpus))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shared, shared_grads = learned(model, whole(corpus))
        repeated, repeated_grads = learned(model, whole(replace(corpus, shared=None)))
    noise = float((repeated - exact).abs().max())
    assert float((shared - exact).abs().max()) < 2 * noise
    for name, grad in grads.items():
        off = float((repeated_grads[name] - grad).norm())
        assert float((shared_grads[name] - grad).norm()) < 2 * off, name


@pytest.mark.parametrize(
    "broken",
    [
        lambda batch: replace(batch, prefixes=()),
        lambda batch: replace(batch, positions_T=torch.cat([torch.arange(length) for length in batch.segments])),
    ],
    ids=["without the prefix table", "with positions that start anew"],
)
def test_a_broken_table_shows(broken):
    corpus = corpus_of(ROWS)
    model = model_of("llama", corpus)
    right, _ = learned(model, whole(corpus))
    wrong, _ = learned(model, broken(whole(corpus)))
    assert float((right - wrong).abs().max()) > 0.05


def test_a_prompt_that_learnt_from_one_answer_alone_would_show(monkeypatch):
    from engine.model.documents import Document

    corpus = corpus_of(ROWS)
    model = model_of("llama", corpus)
    _, right = learned(model, whole(corpus))

    add = Document.add

    def own_alone(document, states, begin, end, left, right):
        if not document.shared:
            return add(document, states, begin, end, left, right)
        product = torch.bmm(left, right)
        states[..., document.own, :] += product[..., document.shared - begin : document.length - begin, :]
        return None

    monkeypatch.setattr(Document, "add", own_alone)
    _, wrong = learned(model, whole(corpus))
    gaps = [float((wrong[name] - grad).abs().max() / grad.abs().max()) for name, grad in right.items()]
    assert max(gaps) > 0.01


@pytest.mark.parametrize("template", [None, BARE], ids=["chat", "merging"])
def test_both_answers_keep_their_own_tokens_and_labels(template):
    corpus = corpus_of(ROWS, template)
    for pair in range(len(ROWS)):
        batch = batch_of(corpus, [2 * pair, 2 * pair + 1])
        alone = [batch_of(corpus, [document]) for document in (2 * pair, 2 * pair + 1)]
        assert batch.labels_N.tolist() == [label for one in alone for label in one.labels_N.tolist()]
        assert batch.label_counts == tuple(one.count for one in alone)
        begin, end = batch.prefixes[1]
        own = batch.ids_T[batch.segments[0] :]
        assert torch.cat([batch.ids_T[begin:end], own]).tolist() == alone[1].ids_T.tolist()
        assert len(own) >= 1


def test_tokens_that_merge_over_the_end_of_the_prompt_are_not_shared():
    """'ca' + 't' and 'ca' + 'n' are one token and two: only what both begin with is common."""
    corpus = corpus_of([{"prompt": "the red ca", "chosen": "t sees", "rejected": "lls"}], BARE)
    asked = len(runs.tokenizer()("the red ca", add_special_tokens=False)["input_ids"])
    assert corpus.shared is not None
    assert int(corpus.shared[1]) < asked
    model = model_of("llama", corpus)
    ours, _ = learned(model, whole(corpus))
    theirs, _ = learned(model, whole(replace(corpus, shared=None)))
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-5)


def test_the_tokens_told_are_those_computed():
    batch = whole(corpus_of(ROWS[:1]))
    (chosen, rejected), (_, (begin, end)) = batch.segments, batch.prefixes
    shared = end - begin
    assert batch.tokens == chosen + rejected
    assert batch.attended == chosen**2 + (shared + rejected) ** 2 - shared**2


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_step_of_shared_prompts_is_one_of_repeated_prompts_under_every_tuning(tmp_path, method):
    spec = runs.dpo_spec(precision="fp32") | {"tuning": {"method": method}, "validation_file": None}
    root = runs.dpo_run(tmp_path / "run", 10, spec=spec)
    runs.save_base(root / "model", width=64)
    with runs.opened(root) as session:
        corpus = session.rows.train
        assert isinstance(corpus, Corpus)
        told = []
        for given in (corpus, replace(corpus, shared=None)):
            session.subject.model.zero_grad()
            scored = session.loss(whole(given))
            scored.total.backward()
            told.append(
                (float(scored.total.detach()), {name: p.grad.clone() for name, p in session.subject.trainable()})
            )
    (ours, our_grads), (theirs, their_grads) = told
    assert ours == pytest.approx(theirs, rel=1e-6)
    for name, grad in their_grads.items():
        assert float((our_grads[name] - grad).abs().max()) < 1e-5 * max(1.0, float(grad.abs().max())), name
