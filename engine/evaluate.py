"""Scoring held-out rows during training."""

from collections.abc import Callable

import torch
from torch import nn

from engine.batch_loss import BatchLoss, Sums
from engine.data.corpus import Batch, Corpus, batch_of
from engine.data.stream import documents_in_order
from engine.dist.ranks import Ranks
from engine.stop import StopFlag


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Callable[[Batch], BatchLoss],
    corpus: Corpus,
    stop: StopFlag,
    ranks: Ranks,
    *,
    token_budget: int,
) -> Sums:
    """Return the sums over the corpus, of which every document is scored once, by one of the ranks.

    `token_budget` affects the speed only.
    """
    was_training = model.training
    model.eval()
    sums = Sums()
    for number, (documents, counts) in enumerate(ranks.turns(list(documents_in_order(corpus, token_budget)))):
        if number % ranks.ask_every == 0:
            stop.check()
        scored = loss(batch_of(corpus, documents))
        if counts:
            sums.add(BatchLoss(scored.total.double(), scored.counted, scored.figures))
    model.train(was_training)
    return Sums.joined(ranks.gather(sums.plain()))
