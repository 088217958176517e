"""The loss of kinds that learn the next token: of every text, or of answers alone."""

from abc import ABC, abstractmethod

from torch import nn
from transformers import PreTrainedTokenizerFast

from engine.data.corpus import Batch, Corpus
from engine.data.mixture import Rows
from engine.model.forward import token_score
from engine.model.load import Subject
from engine.scored import Scored, Sums, token_summary


class NextToken(ABC):
    """What such an objective counts, scores and says of an evaluation; it adds the model and the documents."""

    @abstractmethod
    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows: ...

    def rows(self, subject: Subject) -> Rows:
        return self.documents(subject.tokenizer)

    def count(self, batch: Batch) -> int:
        return batch.count

    def loss(self, model: nn.Module, batch: Batch) -> Scored:
        return token_score(model, batch)

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        return token_summary(sums, corpus)
