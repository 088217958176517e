"""Linear layers of one input, computed as one: their outputs are side by side, with adapters and with 4-bit weights.

Shapes: T tokens, I inputs, O outputs of all the layers, R ranks of all their adapters.
"""

from typing import Any, NamedTuple

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit
from torch import Tensor, nn

from engine.model.loss import is_here


class Adapter(NamedTuple):
    """The low-rank update of a layer: scale * B A."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float


class Linear(NamedTuple):
    """A linear layer: the module that holds the weight, and the adapter on it."""

    base: nn.Linear
    adapter: Adapter | None

    @classmethod
    def of(cls, module: nn.Module) -> "Linear | None":
        """Return the layer, or None if only the module itself can compute it.

        That is the case with dropout in the adapter, DoRA, several adapters, an adapter's bias, and weights that are
        fetched from other ranks.
        """
        if type(module) in {nn.Linear, Linear4bit}:
            return cls(module, None) if is_here(module) else None  # type: ignore[arg-type] - both are nn.Linear
        if type(module) not in {LoraLinear, LoraLinear4bit}:
            return None
        tuned: Any = module
        base = tuned.base_layer
        if type(base) not in {nn.Linear, Linear4bit} or not is_here(base) or tuned.merged or tuned.fan_in_fan_out:
            return None
        if tuned.disable_adapters or not tuned.active_adapters:
            return cls(base, None)
        name = tuned.active_adapters[0]
        plain = len(tuned.active_adapters) == 1 and name in tuned.lora_A and name not in tuned.lora_variant
        if not plain or tuned.lora_bias[name] or type(tuned.lora_dropout[name]) is not nn.Identity:
            return None
        return cls(base, Adapter(tuned.lora_A[name].weight, tuned.lora_B[name].weight, tuned.scaling[name]))

    @property
    def in_4bit(self) -> bool:
        return isinstance(self.base, Linear4bit)

    def dense(self) -> Tensor:
        """Return the weight [outputs, I], dequantized."""
        weight: Any = self.base.weight
        return dequantize_4bit(weight.data, weight.quant_state) if self.in_4bit else weight


class FusedLinear:
    """Linear layers of one input (q, k and v; gate and up; or a single layer), computed in `dtype`.

    `keeps`: the matrix built from the weights is kept for the backward pass, and frozen weights are moved in memory to be
    adjacent, as they are multiplied. For offloaded weights (engine.model.layer_offload), both would hold them in memory.
    """

    def __init__(self, linears: list[Linear], dtype: torch.dtype, *, keeps: bool = True) -> None:
        self._linears = linears
        self._dtype = dtype
        self._keeps = keeps
        self._built: Tensor | None = None
        self._outputs = _side_by_side([linear.base.out_features for linear in linears])
        self._adapted = [
            (linear.adapter, outputs) for linear, outputs in zip(linears, self._outputs, strict=True) if linear.adapter
        ]
        self._ranks = _side_by_side([len(adapter.a_RI) for adapter, _ in self._adapted])
        self._learns_weights = [linear.base.weight.requires_grad and not linear.in_4bit for linear in linears]

    def tensors(self) -> list[Tensor]:
        """Return the tensors that may learn: weights, then biases, then A and B of each adapter."""
        weights = [
            linear.base.weight for linear, learns in zip(self._linears, self._learns_weights, strict=True) if learns
        ]
        biases = [linear.base.bias for linear in self._linears if linear.base.bias is not None]
        return [*weights, *biases, *(tensor for adapter, _ in self._adapted for tensor in adapter[:2])]

    def _weight(self) -> Tensor:
        """Return the matrix [O, I]; from 4-bit weights it is built anew for the backward pass, to save its memory."""
        if self._built is not None:
            return self._built
        weights = [linear.dense().detach() for linear in self._linears]
        if any(linear.in_4bit for linear in self._linears):
            return torch.cat(weights)
        if any(self._learns_weights) or weights[0].dtype != self._dtype:
            matrix = torch.empty(self._outputs[-1].stop, weights[0].shape[1], dtype=self._dtype)
            for weight, outputs in zip(weights, self._outputs, strict=True):
                matrix[outputs] = weight
        else:
            matrix = _adjacent(self._linears, moves=self._keeps)
        if self._keeps:
            self._built = matrix
        return matrix

    def _down(self) -> Tensor:
        """Return A of all adapters [R, I]."""
        return torch.cat([adapter.a_RI for adapter, _ in self._adapted]).to(self._dtype)

    def forward(self, x_TI: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (the outputs [T, O], the outputs of the adapters' A [T, R])."""
        y = x_TI @ self._weight().T
        for linear, outputs in zip(self._linears, self._outputs, strict=True):
            if linear.base.bias is not None:
                y[:, outputs] += linear.base.bias.to(self._dtype)
        if not self._adapted:
            return y, None
        low = x_TI @ self._down().T
        for (adapter, outputs), ranks in zip(self._adapted, self._ranks, strict=True):
            y[:, outputs].addmm_(low[:, ranks], adapter.b_OR.to(self._dtype).T, alpha=adapter.scale)
        return y, low

    def back_low(self, dy_TO: Tensor) -> Tensor | None:
        """Return the gradient of the outputs of A [T, R]."""
        if not self._adapted:
            return None
        d_low = dy_TO.new_empty(len(dy_TO), self._ranks[-1].stop)
        for (adapter, outputs), ranks in zip(self._adapted, self._ranks, strict=True):
            d_low[:, ranks] = (dy_TO[:, outputs] @ adapter.b_OR.to(self._dtype)).mul_(adapter.scale)
        return d_low

    def back(self, dy_TO: Tensor, d_low_TR: Tensor | None) -> Tensor:
        """Return the gradient of the input [T, I]."""
        dx = dy_TO @ self._weight()
        return dx if d_low_TR is None else dx.addmm_(d_low_TR, self._down())

    def learn(self, dy_TO: Tensor, x_TI: Tensor, low_TR: Tensor | None, d_low_TR: Tensor | None) -> list[Tensor | None]:
        """Return the gradients of `tensors`."""
        found: list[Tensor | None] = []
        if any(self._learns_weights):
            dw = dy_TO.T @ x_TI
            for linear, outputs, learns in zip(self._linears, self._outputs, self._learns_weights, strict=True):
                found += [dw[outputs].to(linear.base.weight.dtype)] if learns else []
        for linear, outputs in zip(self._linears, self._outputs, strict=True):
            if (bias := linear.base.bias) is not None:
                found.append(
                    dy_TO[:, outputs].sum(0, dtype=torch.float32).to(bias.dtype) if bias.requires_grad else None
                )
        if low_TR is None or d_low_TR is None:
            return found
        da = d_low_TR.T @ x_TI
        for (adapter, outputs), ranks in zip(self._adapted, self._ranks, strict=True):
            db = (dy_TO[:, outputs].T @ low_TR[:, ranks]).mul_(adapter.scale)
            found += [da[ranks].to(adapter.a_RI.dtype), db.to(adapter.b_OR.dtype)]
        return found


def _adjacent(linears: list[Linear], *, moves: bool) -> Tensor:
    """Return frozen weights as one matrix [O, I], copied if they are not adjacent in memory; `moves`: for good."""
    weights = [linear.base.weight.data for linear in linears]
    first = weights[0]
    shape = (sum(map(len, weights)), first.shape[1])
    ends = [weight.data_ptr() + weight.nbytes for weight in weights]
    if first.untyped_storage().nbytes() < shape[0] * shape[1] * first.itemsize or any(
        weight.data_ptr() != end for weight, end in zip(weights[1:], ends[:-1], strict=True)
    ):
        first = torch.cat(weights)
        if not moves:
            return first
        for linear, part in zip(linears, first.split([len(weight) for weight in weights]), strict=True):
            linear.base.weight.data = part
    return first.as_strided(shape, (shape[1], 1))


def _side_by_side(widths: list[int]) -> list[slice]:
    slices, start = [], 0
    for width in widths:
        slices.append(slice(start, start + width))
        start += width
    return slices
