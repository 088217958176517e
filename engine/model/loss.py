"""Cross-entropy summed over labelled positions, in chunks, so that no tensor of all logits ever exists."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine import shape_rounding
from engine.model import kernels
from engine.model.dropout import place_labels

_CHUNK_LOGITS = 1 << 23
"""How many logits are held at once (16 MiB in bf16)."""
_ROWS_STEP = 32
"""The number of rows in a chunk is a multiple of this."""
_LARGE_VOCABULARY = 1 << 17
"""The width assumed of a head that does not state its own."""


def summed_cross_entropy(
    hidden_ND: Tensor, head: nn.Module, labels_N: Tensor, losses_N: Tensor | None = None
) -> Tensor:
    """Return the sum of -log p(label) over N positions, a scalar with gradients to the hidden states and the head.

    The loss of each label is written to `losses_N`, without gradients.
    """
    if losses_N is None:
        losses_N = torch.empty(len(labels_N), device=hidden_ND.device)
    if type(head) is nn.Linear and is_here(head):
        return _ChunkedCrossEntropy.apply(hidden_ND, head.weight, head.bias, labels_N, losses_N)  # type: ignore[return-value]
    losses = module_losses(hidden_ND, head, labels_N)
    losses_N.copy_(losses.detach())
    return losses.sum()


def module_losses(hidden_ND: Tensor, head: nn.Module, labels_N: Tensor) -> Tensor:
    """Return [N] -log p(label) by the head's own module, in chunks whose logits are computed again for the gradient.

    Without labels an empty chunk goes through the head. Its weights are then in the graph of every rank, whichever rank
    has the labels: ranks that reduce gradients together must have them of the same weights.
    """
    losses: list[Any] = [
        checkpoint(
            _chunk_losses,
            hidden_ND[part],
            head,
            labels_N[part],
            part.start,
            use_reentrant=False,
            preserve_rng_state=False,  # dropout of the head is drawn by seeds of its own (LabelDropout)
        )
        for part in chunks(len(labels_N), head_width(head)) or [slice(0, 0)]
    ]
    return torch.cat(losses)


def _chunk_losses(hidden_ND: Tensor, head: nn.Module, labels_N: Tensor, first: int) -> Tensor:
    """Return [N] -log p(label) of a chunk by the head's own module; `first` is the number of the chunk's first label."""
    place_labels(head, first)
    return functional.cross_entropy(head(hidden_ND).float(), labels_N, reduction="none")


def is_here(module: Any) -> bool:
    """Return whether all of the module's weight is in this process, and not only while the module runs."""
    return module.weight.numel() > 0 and part_here(module.weight) is module.weight


def part_here(tensor: Any) -> Tensor:
    """Return what this process holds of a tensor: all of it, or the local part of a DTensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def head_width(head: nn.Module) -> int:
    return getattr(head, "out_features", _LARGE_VOCABULARY)


def chunks(rows: int, vocabulary: int) -> list[slice]:
    """Divide rows into chunks whose logits are held at once."""
    size = max(_ROWS_STEP, _CHUNK_LOGITS // vocabulary // _ROWS_STEP * _ROWS_STEP)
    return [slice(start, min(rows, start + size)) for start in range(0, rows, size)]


def with_zeros(states: Tensor, count: int) -> Tensor:
    """Append rows of zeros until there are `count`."""
    missing = count - len(states)
    return functional.pad(states, (0, 0) * (states.dim() - 1) + (0, missing)) if missing else states


class _ChunkedCrossEntropy(torch.autograd.Function):
    """A linear head and its cross-entropy in one; a chunk's gradients are computed while its logits exist."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor, losses_N: Tensor
    ) -> Tensor:
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
        filled = shape_rounding.rows(len(labels_N), shape_rounding.step_of(device, dtype.itemsize))
        hidden, labels = with_zeros(hidden_ND.to(dtype), filled), with_zeros(labels_N, filled)
        weight = weight_VD.to(dtype)
        bias = None if bias_V is None else bias_V.to(dtype)
        wants_hidden, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        d_hidden = torch.empty_like(hidden, dtype=hidden_ND.dtype) if wants_hidden else None
        d_weight = torch.zeros_like(weight_VD) if wants_weight else None
        d_bias = torch.zeros_like(bias_V) if wants_bias and bias_V is not None else None
        total = torch.zeros((), dtype=torch.float64, device=hidden_ND.device)
        with torch.autocast(device, enabled=False):
            for part in chunks(len(labels), len(weight_VD)):
                h = hidden[part]
                losses, d_logits = _scored(functional.linear(h, weight, bias), labels[part])
                count = len(labels_N[part])  # without the rows that only fill the chunk
                d_logits[count:] = 0
                losses_N[part] = losses[:count]
                total += losses[:count].sum(dtype=torch.float64)
                if d_hidden is not None:
                    d_hidden[part] = d_logits @ weight
                if d_weight is not None:
                    d_weight += d_logits.T @ h
                if d_bias is not None:
                    d_bias += d_logits.sum(0)
        d_hidden = None if d_hidden is None else d_hidden[: len(labels_N)]
        ctx.save_for_backward(*(d for d in (d_hidden, d_weight, d_bias) if d is not None))
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        scaled = [next(saved) * grads[0] if wanted else None for wanted in ctx.needs_input_grad[:3]]
        return (*scaled, None, None)


def _scored(logits_NV: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return ([N] -log p(label) in fp32, its gradient to the logits in their type); may overwrite the logits."""
    if kernels.take(logits_NV):
        return kernels.kernels().cross_entropy(logits_NV, labels_N), logits_NV
    probs, y = logits_NV.softmax(-1, dtype=torch.float32), labels_N[:, None]
    # log Z from the most likely token, whose probability cannot underflow: cheaper than logsumexp.
    highest, token = logits_NV.max(-1, keepdim=True)
    log_z = highest.float() - probs.gather(1, token).log()
    losses = (log_z - logits_NV.gather(1, y).float())[:, 0]
    return losses, probs.scatter_add_(1, y, torch.full_like(log_z, -1.0)).to(logits_NV.dtype)
