"""Log-probabilities of labels one by one, in chunks: for losses that weigh each answer by what it scored."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine.data.corpus import Batch
from engine.model.forward import backbone_of, head_of
from engine.model.loss import chunks, head_width


def document_logprobs(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """([S] sums of log p over the labels of each document, [S] how many labels it has)."""
    hidden_ND = backbone_of(model, batch).index_select(0, batch.labelled_N)
    logprobs_N = label_logprobs(hidden_ND, head_of(model), batch.labels_N)
    ends_S = torch.tensor(batch.segments, device=hidden_ND.device).cumsum(0)
    document_N = torch.bucketize(batch.labelled_N, ends_S, right=True)
    zeros_S = logprobs_N.new_zeros(len(batch.segments))
    sums_S = zeros_S.index_add(0, document_N, logprobs_N)
    return sums_S, zeros_S.index_add(0, document_N, torch.ones_like(logprobs_N))


def label_logprobs(hidden_ND: Tensor, head: nn.Module, labels_N: Tensor) -> Tensor:
    """[N] log p(label), with gradients to the hidden states and the head; no tensor of all logits ever exists.

    Each chunk's logits are computed again in the backward pass: what a label weighs in the loss is not known
    before every document of the batch is scored.
    """
    parts: list[Tensor] = []
    for part in chunks(len(labels_N), head_width(head)):
        scored: Any = checkpoint(
            _chunk, hidden_ND[part], head, labels_N[part], use_reentrant=False, preserve_rng_state=False
        )
        parts.append(scored)
    return torch.cat(parts)


def _chunk(hidden_ND: Tensor, head: nn.Module, labels_N: Tensor) -> Tensor:
    return -functional.cross_entropy(head(hidden_ND).float(), labels_N, reduction="none")
