"""Likelihoods of given texts: packed and shared, each equals that of the text alone."""

from typing import Any

import numpy as np
import pytest
import torch

from engine import likelihood
from engine.likelihood import Request, likelihoods
from engine.model.attention import PACKED
from engine.precision import Machine
from engine.stop import StopFlag
from tests import runs

CPU = Machine(torch.device("cpu"), "fp32")


def requests() -> list[Request]:
    """Contexts with one to four continuations each, some of one token."""
    rng = np.random.default_rng(0)
    made = []
    for context_tokens in (1, 5, 30):
        context = rng.integers(0, 300, context_tokens).tolist()
        made += [Request(context, rng.integers(0, 300, tokens).tolist()) for tokens in (1, 1, 6, 2)]
    return made


def model() -> Any:
    made = runs.model(vocab_size=300).eval()
    made.set_attn_implementation(PACKED)
    return made


def alone(made: Any, request: Request) -> tuple[float, bool]:
    """Score the requests by transformers' own attention and head."""
    made.set_attn_implementation("eager")
    with torch.no_grad():
        logits = made(torch.tensor([request.context + request.continuation])).logits[0].log_softmax(-1)
    made.set_attn_implementation(PACKED)
    rows = logits[len(request.context) - 1 : -1]
    labels = torch.tensor(request.continuation)
    return float(rows.gather(1, labels[:, None]).sum()), bool((rows.argmax(-1) == labels).all())


def test_every_request_scores_as_it_does_alone():
    made = model()
    found = likelihoods(made, requests(), CPU, StopFlag(), token_budget=40)
    expected = [alone(made, request) for request in requests()]
    assert [one.logprob for one in found] == pytest.approx([logprob for logprob, _ in expected], rel=1e-4)


def test_a_continuation_is_greedy_when_the_model_would_write_it():
    made = model()
    context = requests()[4].context
    with torch.no_grad():
        made.set_attn_implementation("eager")
        written = made.generate(torch.tensor([context]), max_new_tokens=3, do_sample=False)[0, len(context) :].tolist()
        made.set_attn_implementation(PACKED)
    other = [*written[:2], (written[2] + 1) % 300]
    found = likelihoods(made, [Request(context, written), Request(context, other)], CPU, StopFlag(), token_budget=99)
    assert [one.is_greedy for one in found] == [True, False]


def test_letters_after_one_prompt_are_read_once(monkeypatch):
    read = []
    backbone = likelihood.backbone_of
    monkeypatch.setattr(
        likelihood, "backbone_of", lambda made, batch: read.append(batch.tokens) or backbone(made, batch)
    )
    letters = [Request([5, 6, 7, 8], [token]) for token in (20, 21, 22, 23)]
    likelihoods(model(), letters, CPU, StopFlag(), token_budget=99)
    assert read == [4]
