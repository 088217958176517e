"""What stands in a decoder where another rank has the layers, the embedding, the last norm or the head."""

from collections.abc import Callable
from typing import Any

import torch
from bitsandbytes.nn.modules import Params4bit
from torch import Tensor, nn


class Link(nn.Module):
    """In the place of a layer: the residual stream goes through it as it went through that.

    The layer's modules stay in it under their names, emptied: PEFT saves what it finds among them. `by_hand`: it can be
    done as engine.model.llama does layers.
    """

    def __init__(self, layer: nn.Module, through: Callable[[Tensor], Tensor], *, by_hand: bool) -> None:
        super().__init__()
        for name, module in layer.named_children():
            self.add_module(name, module)
        empty(self)
        self.through, self.by_hand = through, by_hand

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.through(x)


def empty(module: nn.Module) -> None:
    """Give back what a module holds; it has learnt for the last time."""
    for weight in module.parameters():
        weight.requires_grad_(False)
        weight.data = weight.data.new_empty(0)
        if isinstance(weight, Params4bit):
            weight.quant_state = None


class Elsewhere(nn.Module):
    """In the place of an embedding: zeros of its shape and type. A `Link` has what the rank before sent in their place."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().new_empty(0, weight.shape[1]), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, self.weight.shape[1], dtype=self.weight.dtype, device=ids.device)
