"""Evaluation: nothing is trained, the rows are scored as their format asks."""

from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from engine.data.chat import chat_corpus, ensure_chat_template
from engine.data.corpus import Batch, Corpus, Rows
from engine.data.source import read_source
from engine.data.text import text_corpus
from engine.journal import Journal
from engine.kinds.eval.spec import EvalSpec
from engine.model.adapters import load_adapter
from engine.model.forward import token_score
from engine.model.load import Subject, check_fit, load_model, load_tokenizer
from engine.model.quantize import was_quantized
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.scored import Scored, Sums, token_summary


class EvalObjective:
    """Texts: every token once, in windows of max_length that do not overlap. Conversations: the answers alone."""

    def __init__(self, run: RunDirectory, spec: EvalSpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal
        self.max_length = spec.evaluation.max_length
        self.source = read_source(run.required_data("eval"), "evals")

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        assert folder is None, "an evaluation has no checkpoints"
        base, adapter = self.run.base_model(), self.run.adapter
        own = adapter is not None and (adapter / "tokenizer.json").exists()
        tokenizer = load_tokenizer(adapter if own and adapter is not None else base)
        in_4bit = was_quantized(adapter)
        model = load_model(base, device=machine.device, dtype=machine.compute_dtype, in_4bit=in_4bit)
        self.max_length = self._fitting(model)
        check_fit(model, tokenizer, self.max_length)
        if adapter is None:
            return Subject(model, tokenizer, "model")
        return Subject(load_adapter(model, adapter), tokenizer, "adapter")

    def _fitting(self, model: PreTrainedModel) -> int:
        """max_length, or what the model was made for when that is less: beyond it the figures say little."""
        asked = self.spec.evaluation.max_length
        limit = getattr(model.config, "max_position_embeddings", None) or asked
        if limit < asked:
            self.journal.log(
                "warn", "max_length_lowered", f"rows are cut at the model's {limit} positions, not {asked}"
            )
        return min(asked, limit)

    def rows(self, subject: Subject) -> Rows:
        tokenizer = subject.tokenizer
        if isinstance(self.source[0].row, str):
            return Rows(None, text_corpus(self.source, tokenizer, self.max_length))
        if ensure_chat_template(tokenizer):
            self.journal.log("warn", "chat_template_added", "the model has no chat template; a plain one was used")
        made = chat_corpus(self.source, tokenizer, max_length=self.max_length, long_rows=self.spec.evaluation.long_rows)
        made.report(self.journal, "eval", self.max_length)
        return Rows(None, made.corpus)

    def count(self, batch: Batch) -> int:
        return batch.count

    def loss(self, model: nn.Module, batch: Batch) -> Scored:
        return token_score(model, batch)

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        return token_summary(sums, corpus)
