"""Scores rows: loss, perplexity and bits per byte."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.data.corpus import Batch, Corpus
from engine.data.stream import batches_in_order
from engine.stop import StopFlag


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Callable[[Batch], tuple[Tensor, int]],
    corpus: Corpus,
    stop: StopFlag,
    *,
    token_budget: int,
) -> dict[str, float]:
    """Mean loss over every label of the corpus, once each; `token_budget` changes nothing but the speed.

    Bits per byte count the text behind the labels (answers for conversations); the bits of end tokens are in,
    their bytes are none, so the figure errs upwards by them.
    """
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in batches_in_order(corpus, token_budget):
        stop.check()
        summed, labels = loss(batch)
        total += float(summed)
        count += labels
    model.train(was_training)
    mean = total / count
    return {
        "eval_loss": mean,
        "eval_perplexity": math.exp(min(mean, 700.0)),
        "eval_bits_per_byte": total / math.log(2) / max(1, corpus.size_bytes()),
        "eval_tokens": float(count),
        "eval_rows": float(len(set(corpus.lines.tolist()))),
    }
