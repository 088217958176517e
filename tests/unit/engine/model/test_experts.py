"""Mixtures of experts: how tokens go through them, the loss that keeps them in balance, and what a spec may ask for."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from engine import shape_rounding
from engine.batch_loss import BatchLoss, Sums
from engine.data.corpus import Batch
from engine.errors import SpecError
from engine.jobs import JOB_SPEC
from engine.model.experts import balance_of, balanced, refuse_adapter
from tests import runs

LENGTHS, LABELS = (3, 11, 1, 20), (3, 4, 0, 20)
EXPERTS, CHOSEN = 4, 2


def batch() -> Batch:
    ids = torch.arange(sum(LENGTHS))
    labelled = ids[: sum(LABELS)]
    return Batch(ids, ids, labelled, labelled, LENGTHS, (0,) * len(LENGTHS), label_counts=LABELS)


def logits(layers: int = 3, filled: int = 5) -> list[Tensor]:
    """Of the batch's tokens, and of some behind them that only fill the row."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(sum(LENGTHS) + filled, EXPERTS, generator=generator) * 2).requires_grad_() for _ in range(layers)
    ]


def by_hand(routed: list[Tensor]) -> tuple[list[float], list[list[float]]]:
    """Document by document, layer by layer, expert by expert."""
    losses, loads = [], []
    for index, length in enumerate(LENGTHS):
        start = sum(LENGTHS[:index])
        loss, load = 0.0, [0.0] * EXPERTS
        for layer in routed:
            tokens = layer[start : start + length].detach().softmax(-1).tolist()
            for expert in range(EXPERTS):
                taken = sum(expert in sorted(range(EXPERTS), key=lambda e: -token[e])[:CHOSEN] for token in tokens)
                share = taken / CHOSEN / length
                loss += EXPERTS * share * sum(token[expert] for token in tokens) / length / len(routed)
                load[expert] += share / len(routed)
        losses.append(loss)
        loads.append(load)
    return losses, loads


def test_the_balance_is_that_of_its_formula_counted_one_by_one():
    found, (losses, loads) = balance_of(logits(), batch(), CHOSEN), by_hand(logits())
    assert found.loss_S.tolist() == pytest.approx(losses, rel=1e-5)
    for load, expected in zip(found.load_SE.tolist(), loads, strict=True):
        assert load == pytest.approx(expected, rel=1e-5)


def test_of_one_document_and_layer_it_is_transformers_own():
    (layer,), tokens = logits(1, 0), batch().ids_T
    whole = Batch(tokens, tokens, tokens, tokens, (len(tokens),), (0,))
    own: Any = load_balancing_loss_func((layer.detach(),), EXPERTS, CHOSEN)
    assert float(balance_of([layer.detach()], whole, CHOSEN).loss_S) == pytest.approx(float(own) / CHOSEN)


def test_it_is_1_where_all_get_the_same_and_as_many_as_there_are_where_one_gets_all():
    turns = torch.eye(EXPERTS).repeat(3, 1) * 50
    tokens = torch.arange(len(turns))
    document = Batch(tokens, tokens, tokens, tokens, (len(turns),), (0,))
    assert float(balance_of([turns], document, 1).loss_S) == pytest.approx(1.0)
    assert float(balance_of([turns[:1].expand(len(turns), -1)], document, 1).loss_S) == pytest.approx(EXPERTS)


def test_documents_weigh_what_they_have_of_labels_and_the_loss_that_is_told_is_that_of_the_labels():
    routed, (losses, loads) = logits(), by_hand(logits())
    config = runs.model("mixtral").config
    config.router_aux_loss_coef = 0.5
    scored = balanced(BatchLoss(torch.tensor(7.0), sum(LABELS), {}), routed, batch(), config)
    expected = sum(count * loss for count, loss in zip(LABELS, losses, strict=True))
    assert float(scored.total.detach()) == pytest.approx(7.0 + 0.5 * expected, rel=1e-5)
    sums = Sums()
    sums.add(scored)
    assert float(sums.total) == 7.0
    told = sums.means()
    assert told.pop("balance_loss") == pytest.approx(expected / sum(LABELS), rel=1e-5)
    shares = [sum(c * load[e] for c, load in zip(LABELS, loads, strict=True)) / sum(LABELS) for e in range(EXPERTS)]
    assert told == pytest.approx({f"expert_load/{expert}": share for expert, share in enumerate(shares)})
    assert sum(told.values()) == pytest.approx(1.0)


def test_gradients_go_to_the_logits_of_documents_with_labels_alone():
    routed = logits()
    config = runs.model("mixtral").config
    balanced(BatchLoss(torch.tensor(0.0), sum(LABELS), {}), routed, batch(), config).total.backward()
    silent = slice(LENGTHS[0] + LENGTHS[1], LENGTHS[0] + LENGTHS[1] + 1)
    for layer in routed:
        assert layer.grad is not None
        assert bool(layer.grad[: silent.start].abs().sum(-1).gt(0).all())
        assert not layer.grad[silent].any()
        assert not layer.grad[sum(LENGTHS) :].any()


@pytest.mark.parametrize("step", [1, 64])
def test_tokens_go_through_experts_as_in_transformers_own_modules(monkeypatch, step):
    monkeypatch.setattr(shape_rounding, "step_of", lambda *_: step)
    model = runs.model("mixtral")
    mixture = model.model.layers[0].mlp
    # The last expert is never chosen, and has to learn nothing.
    x = torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(0)).abs().requires_grad_()
    with torch.no_grad():
        mixture.gate.weight[-1] = -10.0
    told = []
    for way in (model.config._experts_implementation, "eager"):
        model.set_experts_implementation(way)
        out = mixture(x)
        told.append((out, *torch.autograd.grad((out * x.detach()).sum(), (x, *mixture.parameters()))))
    assert not told[0][3][-1].any()
    for ours, theirs in zip(*told, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.detach().abs().max()))


def test_experts_take_no_adapter():
    with pytest.raises(SpecError, match="mixture of 4 experts, which adapters do not reach") as refused:
        refuse_adapter(runs.model("mixtral").config)
    assert "'full'" in refused.value.mend
    refuse_adapter(runs.model("llama").config)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"num_local_experts": 0}, "greater than or equal to 1"),
        ({"num_local_experts": 65}, "less than or equal to 64"),
        ({"num_local_experts": 4, "num_experts_per_tok": 5}, "num_experts_per_tok 5 is more than num_local_experts 4"),
        ({"num_local_experts": 4, "num_experts_per_tok": 0}, "greater than or equal to 1"),
        ({"num_local_experts": 4, "router_aux_loss_coef": -0.1}, "greater than or equal to 0"),
        ({"num_local_experts": True}, "num_local_experts must not be true or false"),
    ],
)
def test_what_no_mixture_can_be_is_refused(model, told):
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python({"kind": "pretrain", "training_file": "file-1", "model": model})


@pytest.mark.parametrize(("given", "experts"), [({}, 1), ({"num_local_experts": 1}, 1), ({"num_local_experts": 8}, 8)])
def test_without_experts_or_with_one_the_model_is_dense(given, experts):
    spec: Any = JOB_SPEC.validate_python({"kind": "pretrain", "training_file": "file-1", "model": given})
    assert spec.model.experts == experts
