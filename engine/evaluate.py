"""Scores rows without training on them."""

from collections.abc import Callable

import torch
from torch import nn

from engine.data.corpus import Batch, Corpus, batch_of
from engine.data.stream import documents_in_order
from engine.dist.ranks import Ranks
from engine.scored import Scored, Sums
from engine.stop import StopFlag


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Callable[[Batch], Scored],
    corpus: Corpus,
    stop: StopFlag,
    ranks: Ranks,
    *,
    token_budget: int,
) -> Sums:
    """The sums over all of the corpus, everything once on one of the ranks.

    `token_budget` changes nothing but the speed.
    """
    was_training = model.training
    model.eval()
    sums = Sums()
    for number, (documents, counts) in enumerate(ranks.turns(list(documents_in_order(corpus, token_budget)))):
        if number % ranks.ask_every == 0:
            stop.check()
        scored = loss(batch_of(corpus, documents))
        if counts:
            sums.add(Scored(scored.total.double(), scored.counted, scored.figures))
    model.train(was_training)
    return Sums.joined(ranks.gather(sums.plain()))
