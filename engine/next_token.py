"""The loss of kinds that learn the next token, of every text or of answers only."""

from abc import ABC, abstractmethod

from torch import nn
from transformers import PreTrainedTokenizerFast

from engine.batch_loss import BatchLoss, Sums, token_summary
from engine.data.corpus import Batch, Corpus
from engine.data.rows import Rows
from engine.model.forward import token_score
from engine.model.load import Subject


class NextToken(ABC):
    """The part of a TrainingObjective that such kinds share; each adds its model and its documents."""

    @abstractmethod
    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows: ...

    def rows(self, subject: Subject) -> Rows:
        return self.documents(subject.tokenizer)

    def count(self, batch: Batch) -> int:
        return batch.count

    def loss(self, model: nn.Module, batch: Batch) -> BatchLoss:
        return token_score(model, batch)

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        return token_summary(sums, corpus)
