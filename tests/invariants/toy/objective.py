"""What the toy kind trains."""

from pathlib import Path

from torch import nn

from engine.data.corpus import Batch, Corpus
from engine.data.mixture import Rows
from engine.data.source import read_source
from engine.data.text import text_corpus
from engine.journal import Journal
from engine.kinds.toy.spec import ToySpec
from engine.model.forward import token_score
from engine.model.load import Subject, load_model, load_tokenizer
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.scored import Scored, Sums, token_summary


class ToyObjective:
    def __init__(self, run: RunDirectory, spec: ToySpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        source = folder or self.run.base_model()
        return Subject(load_model(source, device=machine.device), load_tokenizer(source), "model")

    def rows(self, subject: Subject) -> Rows:
        rows = read_source(self.run.required_data("train"), "pretrain")
        backwards = [row._replace(row=str(row.row)[::-1]) for row in rows]
        return Rows(text_corpus(backwards, subject.tokenizer, self.spec.hyperparameters.max_length), None)

    def count(self, batch: Batch) -> int:
        return batch.count

    def loss(self, model: nn.Module, batch: Batch) -> Scored:
        return token_score(model, batch)

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        return token_summary(sums, corpus)
