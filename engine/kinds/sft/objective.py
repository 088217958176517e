"""Supervised fine-tuning: the next token of every answer."""

from pathlib import Path

from torch import Tensor, nn

from engine.data.chat import chat_corpus, ensure_chat_template
from engine.data.corpus import Batch, Corpus, Rows
from engine.data.heldout import held_out_corpus
from engine.data.source import SourceRow, read_sources
from engine.journal import Journal
from engine.kinds.sft.spec import SftSpec
from engine.model.adapters import load_adapter, merged, new_adapter
from engine.model.forward import token_loss
from engine.model.load import Subject, check_fit, load_model, load_tokenizer
from engine.parts import LoraTuning
from engine.precision import Machine
from engine.rundir import RunDirectory


class SftObjective:
    """All weights, or an adapter over a frozen base."""

    def __init__(self, run: RunDirectory, spec: SftSpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal
        self.sources = read_sources(
            run.required_data("train"),
            run.data("validation"),
            purpose="fine-tune",
            auto_split=spec.validation_file == "auto",
            seed=spec.seed,
        )

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        spec, run = self.spec, self.run
        tokenizer = load_tokenizer(self._tokenizer_folder(folder))
        if ensure_chat_template(tokenizer):
            self.journal.log("warn", "chat_template_added", "the model has no chat template; a plain one was added")
        if not isinstance(spec.tuning, LoraTuning):
            model = load_model(folder or run.base_model(), device=machine.device)
            if folder is None:
                self._check(model, tokenizer)
                if run.adapter is not None:
                    model = merged(load_adapter(model, run.adapter, trainable=False))
                    model.requires_grad_(True)
            return Subject(model, tokenizer, "model")
        # A frozen base needs no master weights: it lies in memory in the compute type.
        model = load_model(run.base_model(), device=machine.device, dtype=machine.compute_dtype)
        if folder is None:
            self._check(model, tokenizer)
        start = folder or run.adapter
        if start is None:
            return Subject(new_adapter(model, spec.tuning, spec.model), tokenizer, "adapter")
        return Subject(load_adapter(model, start, trainable=True), tokenizer, "adapter")

    def _tokenizer_folder(self, folder: Path | None) -> Path:
        adapter = self.run.adapter
        if folder is not None:
            return folder
        if adapter is not None and (adapter / "tokenizer.json").exists():
            return adapter
        return self.run.base_model()

    def _check(self, model: nn.Module, tokenizer: object) -> None:
        warning = check_fit(model, tokenizer, self.spec.hyperparameters.max_length)  # type: ignore[arg-type]
        if warning:
            self.journal.log("warn", "beyond_positions", warning)

    def rows(self, subject: Subject) -> Rows:
        return Rows(
            train=self._corpus(self.sources.train, subject, "training"),
            validation=held_out_corpus(
                self.sources, lambda rows: self._corpus(rows, subject, "validation"), self.journal
            ),
        )

    def _corpus(self, rows: list[SourceRow], subject: Subject, name: str) -> Corpus:
        hyper = self.spec.hyperparameters
        made = chat_corpus(rows, subject.tokenizer, max_length=hyper.max_length, long_rows=hyper.long_rows)
        made.report(self.journal, name, hyper.max_length)
        return made.corpus

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        return token_loss(model, batch)
