"""Log-probabilities of labels, each weighed as it likes, against torch's over all logits."""

import pytest
import torch
from torch import nn

from engine.model import logprobs, loss
from engine.model.logprobs import label_logprobs


class Doubled(nn.Linear):
    """A head that is not a plain linear layer."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        return 2 * super().forward(input)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(loss, "_CHUNK_LOGITS", 1)


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


def test_no_label_is_no_value():
    assert label_logprobs(torch.zeros(0, 8), nn.Linear(8, 20), torch.zeros(0, dtype=torch.long)).shape == (0,)
