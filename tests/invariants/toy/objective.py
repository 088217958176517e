"""What the toy kind trains."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from engine.data.rows import Rows
from engine.data.source import read_source
from engine.data.supply import seen_in
from engine.data.text import TextRecipe
from engine.journal import Journal
from engine.kinds.toy.spec import ToySpec
from engine.model.config import config_of
from engine.model.load import Subject, load_model, load_tokenizer
from engine.next_token import NextToken
from engine.precision import Machine
from engine.rundir import RunDirectory


class ToyObjective(NextToken):
    def __init__(self, run: RunDirectory, spec: ToySpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        source = folder or self.run.base_model()
        return Subject(load_model(source, device=machine.device), load_tokenizer(source), "model")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return load_tokenizer(self.run.base_model())

    def config(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        return config_of(self.run.base_model()).to_dict()

    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows:
        rows = read_source(self.run.required_data("train"), "pretrain")
        backwards = [row._replace(row=str(row.row)[::-1]) for row in rows]
        return Rows(seen_in(backwards, TextRecipe(tokenizer, self.spec.hyperparameters.max_length)).cut.corpus, None)
