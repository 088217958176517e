"""The chunked loss against torch's cross-entropy over all logits."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from engine.model.loss import summed_cross_entropy
from tests.unit.engine.model.conftest import Doubled

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.mark.parametrize("head_type", [nn.Linear, Doubled])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_equal_cross_entropy_over_all_logits(head_type, bias):
    torch.manual_seed(0)
    head = head_type(16, 50, bias=bias)
    hidden = torch.randn(100, 16, requires_grad=True)
    labels = torch.randint(0, 50, (100,))
    wanted = [hidden, *head.parameters()]
    expected = functional.cross_entropy(head(hidden), labels, reduction="sum") / 7
    ours = summed_cross_entropy(hidden, head, labels) / 7
    torch.testing.assert_close(ours, expected)
    for mine, theirs in zip(torch.autograd.grad(ours, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_frozen_head_gets_no_gradient():
    head = nn.Linear(8, 20).requires_grad_(False)
    hidden = torch.randn(5, 8, requires_grad=True)
    summed_cross_entropy(hidden, head, torch.arange(5)).backward()
    assert hidden.grad is not None
    assert head.weight.grad is None


def test_no_label_is_no_loss():
    nothing = summed_cross_entropy(torch.zeros(0, 8), nn.Linear(8, 20), torch.zeros(0, dtype=torch.long))
    assert nothing.item() == 0.0
