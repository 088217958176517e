"""Pre-training: the next token of every text."""

from pathlib import Path

from torch import Tensor, nn

from engine.data.corpus import Batch, Rows
from engine.data.source import read_sources
from engine.data.text import text_corpus
from engine.data.tokenizer import train_tokenizer
from engine.journal import Journal
from engine.kinds.pretrain.spec import PretrainSpec
from engine.model.forward import token_loss
from engine.model.load import Subject, check_fit, load_model, load_tokenizer, new_model
from engine.precision import Machine
from engine.rundir import RunDirectory


class PretrainObjective:
    """From random weights and a tokenizer of its own, or on from an existing model."""

    def __init__(self, run: RunDirectory, spec: PretrainSpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal
        self.sources = read_sources(
            run.required_data("train"),
            run.data("validation"),
            purpose="pretrain",
            auto_split=spec.validation_file == "auto",
            seed=spec.seed,
        )

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        spec = self.spec
        if folder is None and not isinstance(spec.model, str):
            texts = (str(row.row) for row in self.sources.train)
            tokenizer = train_tokenizer(texts, spec.tokenizer.vocab_size)
            self.journal.log("info", "tokenizer_trained", f"trained a tokenizer of {len(tokenizer)} tokens")
            model = new_model(spec.model, tokenizer, max_length=spec.hyperparameters.max_length, device=machine.device)
            return Subject(model, tokenizer, "model")
        source = folder or self.run.base_model()
        subject = Subject(load_model(source, device=machine.device), load_tokenizer(source), "model")
        if folder is None:
            warning = check_fit(subject.model, subject.tokenizer, spec.hyperparameters.max_length)
            if warning:
                self.journal.log("warn", "beyond_positions", warning)
        return subject

    def rows(self, subject: Subject) -> Rows:
        length = self.spec.hyperparameters.max_length
        held_out = self.sources.validation
        return Rows(
            train=text_corpus(self.sources.train, subject.tokenizer, length),
            validation=text_corpus(held_out, subject.tokenizer, length) if held_out else None,
        )

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        return token_loss(model, batch)
