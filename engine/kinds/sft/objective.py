"""Supervised fine-tuning: the loss of the next token in every answer."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from engine.data.chat import ChatRecipe
from engine.data.rows import Rows
from engine.data.training import TrainingFiles
from engine.journal import Journal
from engine.kinds.sft.spec import SftSpec
from engine.model.load import Subject
from engine.model.tuned import Start
from engine.next_token import NextToken
from engine.precision import Machine
from engine.rundir import RunDirectory


class SftObjective(NextToken):
    """Trains all weights, or an adapter over a frozen base, on the answers of conversations."""

    def __init__(self, run: RunDirectory, spec: SftSpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal
        self.files = TrainingFiles.find(run, spec, spec.validation_file, journal)
        self.start = Start(run, journal, spec.tuning, spec.model, spec.hyperparameters)

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        return self.start.load(folder, machine)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.start.tokenizer()

    def config(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:  # noqa: ARG002 - only a new model's config depends on it
        return self.start.config()

    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows:
        hyper = self.spec.hyperparameters
        recipe = ChatRecipe(tokenizer, max_length=hyper.max_length, long_rows=hyper.long_rows)
        return self.files.rows(recipe, self.journal)
