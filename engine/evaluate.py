"""Scores rows without training on them."""

from collections.abc import Callable

import torch
from torch import nn

from engine.data.corpus import Batch, Corpus
from engine.data.stream import batches_in_order
from engine.scored import Scored, Sums
from engine.stop import StopFlag


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Callable[[Batch], Scored],
    corpus: Corpus,
    stop: StopFlag,
    *,
    token_budget: int,
) -> Sums:
    """The sums over all of the corpus, everything once; `token_budget` changes nothing but the speed."""
    was_training = model.training
    model.eval()
    sums = Sums()
    for batch in batches_in_order(corpus, token_budget):
        stop.check()
        scored = loss(batch)
        sums.add(Scored(scored.total.double(), scored.counted, scored.figures))
    model.train(was_training)
    return sums
