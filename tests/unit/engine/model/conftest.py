"""What tests of losses share."""

import pytest
import torch
from torch import nn

from engine.model import loss


class Doubled(nn.Linear):
    """A head that is not a plain linear layer."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        return 2 * super().forward(input)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many chunks of logits as there can be."""
    monkeypatch.setattr(loss, "_CHUNK_LOGITS", 1)
