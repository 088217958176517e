"""The loss of kinds that learn the next token: of every text, or of answers alone."""

from torch import nn

from engine.data.corpus import Batch, Corpus
from engine.model.forward import token_score
from engine.scored import Scored, Sums, token_summary


class NextToken:
    """What such an objective counts, scores and says of an evaluation; it adds the model and the rows."""

    def count(self, batch: Batch) -> int:
        return batch.count

    def loss(self, model: nn.Module, batch: Batch) -> Scored:
        return token_score(model, batch)

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        return token_summary(sums, corpus)
