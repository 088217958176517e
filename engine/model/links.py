"""Stand-ins in a decoder for layers, embedding, last norm or head that another rank has."""

from collections.abc import Callable
from typing import Any

import torch
from bitsandbytes.nn.modules import Params4bit
from torch import Tensor, nn


class Link(nn.Module):
    """The stand-in for a layer, through which the residual stream passes unchanged, is received or is sent.

    The layer's modules stay in it under their names, emptied: PEFT looks for them when it saves. `by_hand`: the layer can
    be computed by engine.model.llama.
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
    """Free the weights of a module, which does not train any longer."""
    for weight in module.parameters():
        weight.requires_grad_(False)
        weight.data = weight.data.new_empty(0)
        if isinstance(weight, Params4bit):
            weight.quant_state = None


class Elsewhere(nn.Module):
    """The stand-in for an embedding: zeros of its shape and type, which a `Link` replaces by what the rank before sent."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().new_empty(0, weight.shape[1]), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, self.weight.shape[1], dtype=self.weight.dtype, device=ids.device)
