"""Log-probabilities of labels, each weighed as it likes, against torch's over all logits."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from engine.data.corpus import Batch
from engine.model import logprobs
from engine.model.dropout import by_document, place_dropout, place_labels
from engine.model.logprobs import label_logprobs
from engine.model.loss import summed_cross_entropy
from tests.unit.engine.model.conftest import Doubled

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.mark.parametrize("step", [1, 64], ids=["as they are", "filled up"])
@pytest.mark.parametrize("kept", [1 << 24, 0], ids=["kept", "computed again"])
@pytest.mark.parametrize("head_type", [nn.Linear, Doubled])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_equal_those_over_all_logits(monkeypatch, head_type, bias, kept, step):
    monkeypatch.setattr(logprobs, "_KEPT_LOGITS", kept)
    monkeypatch.setattr(logprobs.shape_rounding, "step_of", lambda *_: step)
    torch.manual_seed(0)
    head = head_type(16, 50, bias=bias)
    hidden = torch.randn(100, 16, requires_grad=True)
    labels, weights = torch.randint(0, 50, (100,)), torch.randn(100)
    wanted = [hidden, *head.parameters()]
    expected = head(hidden).log_softmax(-1).gather(1, labels[:, None])[:, 0]
    ours = label_logprobs(hidden, head, labels)
    torch.testing.assert_close(ours, expected)
    grads = [torch.autograd.grad((values * weights).sum(), wanted) for values in (ours, expected)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_nothing_is_kept_for_it():
    head = nn.Linear(8, 20, bias=False).requires_grad_(False)
    hidden = torch.randn(5, 8, requires_grad=True)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        values = label_logprobs(hidden, head, torch.arange(5))
    values.sum().backward()
    assert kept == [hidden.shape]
    assert head.weight.grad is None


def test_an_adapter_s_dropout_leaves_out_the_same_when_a_chunk_is_computed_again():
    torch.manual_seed(0)
    given = torch.zeros(40, dtype=torch.long)
    batch = Batch(given, given, given, given, (30, 10), (1, 2), label_counts=(30, 10))
    wrapped = around(nn.Linear(16, 50, bias=False), dropout=0.5)
    place_dropout(wrapped, 1, batch)
    hidden = torch.randn(40, 16, requires_grad=True)
    labels, weights = torch.randint(0, 50, (40,)), torch.randn(40)
    head = wrapped.base_model.model.head
    wanted = [hidden, *(weight for weight in head.parameters() if weight.requires_grad)]
    assert len(wanted) == 3
    place_labels(head, 0)
    expected = head(hidden).log_softmax(-1).gather(1, labels[:, None])[:, 0]
    ours = label_logprobs(hidden, head, labels)
    torch.testing.assert_close(ours, expected)
    grads = [torch.autograd.grad((values * weights).sum(), wanted) for values in (ours, expected)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def around(head: nn.Linear, dropout: float) -> Any:
    """A head with an adapter that has learnt something."""
    config = LoraConfig(r=4, lora_dropout=dropout, target_modules=["head"], init_lora_weights=False)
    wrapped: Any = get_peft_model(nn.ModuleDict({"head": head}), config)  # type: ignore[arg-type]
    by_document(wrapped, wrapped.base_model.model.head)
    return wrapped.train()


@pytest.mark.parametrize("labels", [label_logprobs, summed_cross_entropy])
def test_without_a_label_a_head_that_is_a_module_still_gets_a_gradient(labels):
    """Ranks that reduce gradients together have to have them of the same weights."""
    head = Doubled(8, 20, bias=False)
    labels(torch.zeros(0, 8), head, torch.zeros(0, dtype=torch.long)).sum().backward()
    assert head.weight.grad is not None
    assert not head.weight.grad.any()


def test_no_label_is_no_value():
    assert label_logprobs(torch.zeros(0, 8), nn.Linear(8, 20), torch.zeros(0, dtype=torch.long)).shape == (0,)
