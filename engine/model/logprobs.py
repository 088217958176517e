"""Log-probabilities of single labels, computed in chunks: for losses that weigh each answer by its score."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine import shape_rounding
from engine.data.corpus import Batch
from engine.model.context import context_of
from engine.model.forward import decoder_of, head_of, labelled_states
from engine.model.loss import chunks, is_here, module_losses, with_zeros

_KEPT_LOGITS = 1 << 24
"""Up to this many are kept for the gradient of the head's weight (32 MiB in bf16); of more, all are computed again."""


def document_logprobs(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return ([S] the sum of log p over each document's labels, [S] its number of labels)."""
    hidden_ND, context = labelled_states(model, batch), context_of(decoder_of(model))
    labels = context.labels(batch)
    own_N = label_logprobs(hidden_ND, head_of(model), batch.labels_N[labels])
    logprobs_N = context.all_labels(own_N, labels, batch.count)
    counts_S = torch.tensor(batch.label_counts, device=hidden_ND.device)
    document_N = torch.arange(len(counts_S), device=hidden_ND.device).repeat_interleave(
        counts_S, output_size=batch.count
    )
    return logprobs_N.new_zeros(len(counts_S)).index_add(0, document_N, logprobs_N), counts_S


def label_logprobs(hidden_ND: Tensor, head: nn.Module, labels_N: Tensor) -> Tensor:
    """Return [N] log p(label), with gradients to the hidden states and the head; all logits never exist at once."""
    if type(head) is nn.Linear and is_here(head):
        return _LabelLogprobs.apply(hidden_ND, head.weight, head.bias, labels_N)  # type: ignore[return-value]
    return -module_losses(hidden_ND, head, labels_N)


class _LabelLogprobs(torch.autograd.Function):
    """The log-probabilities of a linear head, with gradients that are scaled once each label's weight is known.

    A label's weight in the loss is known only after all documents are scored, and only scales its gradient. The
    gradient to the hidden states, W[label] - sum of p * W, is therefore computed while the chunk's logits exist, and
    scaled in the backward pass. The gradient of the head, where it is trained, sums over labels and waits for the
    weights.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor) -> Tensor:
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
        count = shape_rounding.rows(len(labels_N), shape_rounding.step_of(device, dtype.itemsize))
        hidden, labels = with_zeros(hidden_ND.to(dtype), count), with_zeros(labels_N, count)
        weight = weight_VD.to(dtype)
        bias = None if bias_V is None else bias_V.to(dtype)
        wants_hidden, *wants_head = ctx.needs_input_grad[:3]
        keeps = any(wants_head) and len(labels) * len(weight) <= _KEPT_LOGITS
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        logprobs = hidden_ND.new_empty(len(labels), dtype=torch.float32)
        kept: list[Tensor] = []
        with torch.autocast(device, enabled=False):
            for part in chunks(len(labels), len(weight)):
                logprobs[part], probs = _scored(hidden[part], weight, bias, labels[part])
                if d_hidden is None and not keeps:
                    continue
                d_logits = _pull(probs, labels[part]).to(dtype)
                if d_hidden is not None:
                    d_hidden[part] = d_logits @ weight
                if keeps:
                    kept.append(d_logits)
        ctx.wants_head = wants_head
        ctx.types = hidden_ND.dtype, weight_VD.dtype
        ctx.save_for_backward(d_hidden, *((hidden, weight, bias, labels, *kept) if any(wants_head) else ()))
        return logprobs[: len(labels_N)]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, *rest = ctx.saved_tensors
        scale_N1 = grads[0][:, None]
        hidden_dtype, weight_dtype = ctx.types
        back = None if d_hidden is None else (d_hidden[: len(scale_N1)] * scale_N1).to(hidden_dtype)
        wants_weight, wants_bias = ctx.wants_head
        if not (wants_weight or wants_bias):
            return back, None, None, None
        hidden, weight, bias, labels, *kept = rest
        scale_N1 = with_zeros(scale_N1, len(labels))  # rows that only fill up have no weight
        d_weight = torch.zeros_like(weight, dtype=weight_dtype) if wants_weight else None
        d_bias = torch.zeros_like(bias, dtype=weight_dtype) if wants_bias else None
        for index, part in enumerate(chunks(len(labels), len(weight))):
            h, y = hidden[part], labels[part]
            d_logits = kept[index] if kept else _pull(_scored(h, weight, bias, y)[1], y).to(weight.dtype)
            if d_weight is not None:
                d_weight += d_logits.T @ (h * scale_N1[part]).to(weight.dtype)
            if d_bias is not None:
                d_bias += (d_logits * scale_N1[part]).sum(0)
        return back, d_weight, d_bias, None


def _scored(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """([N] log p(label), [N, V] probabilities), both in fp32."""
    logits = functional.linear(hidden_ND, weight_VD, bias_V)
    probs = logits.softmax(-1, dtype=torch.float32)
    # log Z from the most likely token, whose probability cannot underflow: cheaper than logsumexp.
    highest, token = logits.max(-1, keepdim=True)
    log_z = highest.float() - probs.gather(1, token).log()
    return (logits.gather(1, labels_N[:, None]).float() - log_z)[:, 0], probs


def _pull(probs_NV: Tensor, labels_N: Tensor) -> Tensor:
    """Return the gradient of log p(label) to the logits; it overwrites the probabilities."""
    ones = torch.ones(len(labels_N), 1, dtype=probs_NV.dtype, device=probs_NV.device)
    return probs_NV.neg_().scatter_add_(1, labels_N[:, None], ones)
