"""Evaluation: nothing is trained; the rows are scored as their format and the spec ask."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from engine.data.chat import ChatRecipe, ensure_chat_template
from engine.data.corpus import Corpus
from engine.data.lines import require, rows_near, rows_on
from engine.data.rows import Rows
from engine.data.source import SourceRow, read_source, scan
from engine.data.supply import Seen, seen_in
from engine.data.text import TextRecipe
from engine.dist.ranks import Ranks
from engine.errors import SpecError
from engine.journal import Journal
from engine.kinds.eval.choice import choice_scores, read_choices
from engine.kinds.eval.generation import generation_scores, read_prompts
from engine.kinds.eval.loss import loss_scores, read_documents
from engine.kinds.eval.reading import Reading
from engine.kinds.eval.scores import Scores, Setting
from engine.kinds.eval.spec import EvalSpec
from engine.kinds.eval.tokens import token_scores
from engine.model.adapters import load_adapter
from engine.model.config import config_of, positions_of
from engine.model.load import Subject, check_fit, load_model, tokenizer_of
from engine.model.quantize import was_quantized
from engine.passes import Passes
from engine.plan.forward import Head
from engine.precision import Machine
from engine.rows import MultipleChoice
from engine.rundir import RunDirectory
from engine.stop import StopFlag

_HEADS_OF_DOCUMENTS: dict[str, Head] = {"loss": "logprobs", "tokens": "losses"}
"""The tasks whose rows are documents with a loss, and the head that computes it."""


class Weights(NamedTuple):
    """The folders of a model: its base and the adapter on it, if any."""

    base: Path
    adapter: Path | None

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return tokenizer_of(self.base, self.adapter)


class EvalObjective:
    """Scores every token of a text once, in windows of max_length that do not overlap, and of conversations the answers."""

    def __init__(self, run: RunDirectory, spec: EvalSpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal
        self.asked = set(spec.evaluation.rows)
        self.source = _rows_of(run.required_data("eval"), self.asked)
        shots = run.data("fewshot")
        self.shots = [] if shots is None else read_source(shots, "evals")
        self.task = _task_of(spec, [*self.source[:1], *self.shots[:1]])
        self.max_length = self._fitting()

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        assert folder is None, "an evaluation has no checkpoints"
        return self._load(self.model, machine)

    def load_baseline(self, machine: Machine) -> Subject:
        """Load the model to compare with."""
        return self._load(self.baseline, machine)

    def weights(self) -> list[Weights]:
        """Return the weights of the models that are scored, in that order."""
        return [self.model, *([self.baseline] if self.spec.compare_to is not None else [])]

    @property
    def model(self) -> Weights:
        return Weights(self.run.base_model(), self.run.adapter)

    @property
    def baseline(self) -> Weights:
        if self.run.baseline is None:
            raise SpecError("baseline_missing", "the run directory has no baseline/", "Put its weights there.")
        return Weights(self.run.baseline, self.run.baseline_adapter)

    def _load(self, weights: Weights, machine: Machine) -> Subject:
        tokenizer, (base, adapter) = weights.tokenizer(), weights
        in_4bit = was_quantized(adapter)
        model = load_model(base, device=machine.device, dtype=machine.compute_dtype, in_4bit=in_4bit)
        check_fit(model, tokenizer, self.max_length)
        model.requires_grad_(False)  # no backward pass: nothing is to be kept for one
        if adapter is None:
            return Subject(model, tokenizer, "model")
        return Subject(load_adapter(model, adapter), tokenizer, "adapter")

    def _fitting(self) -> int:
        """Return max_length, or the positions that the models were made for if fewer: beyond them scores mean little."""
        asked, written = self.spec.evaluation.max_length, self.spec.evaluation.max_new_tokens
        folders = [self.run.base_model(), *filter(None, [self.run.baseline])]
        limit = min(asked, *(positions_of(folder) or asked for folder in folders))
        if limit < asked:
            self.journal.log(
                "warn", "max_length_lowered", f"rows are cut at the model's {limit} positions, not {asked}"
            )
        if self.task == "generate" and limit <= written:
            raise SpecError(
                "max_new_tokens_too_long",
                f"max_new_tokens is {written}, the model has {limit} positions for prompt and answer",
                f"Set max_new_tokens well below {limit}.",
            )
        return limit

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.model.tokenizer()

    def config(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:  # noqa: ARG002 - only a new model's config depends on it
        return config_of(self.run.base_model()).to_dict()

    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows:
        return Rows(None, self._seen(tokenizer).cut.corpus if self.task in _HEADS_OF_DOCUMENTS else None)

    def rows(self, subject: Subject) -> Rows:
        return self.documents(subject.tokenizer)

    def _seen(self, tokenizer: PreTrainedTokenizerFast) -> Seen:
        if isinstance(self.source[0].row, str):
            seen = seen_in(self.source, TextRecipe(tokenizer, self.max_length))
            return seen._replace(cut=seen.cut._replace(corpus=self._windows(seen.cut.corpus)))
        if ensure_chat_template(tokenizer):
            self.journal.log("warn", "chat_template_added", "the model has no chat template; a plain one is used")
        long_rows = self.spec.evaluation.long_rows
        seen = seen_in(self.source, ChatRecipe(tokenizer, max_length=self.max_length, long_rows=long_rows))
        seen.cut.report(self.journal, "eval", self.max_length)
        return seen

    def _windows(self, corpus: Corpus) -> Corpus:
        """Return the windows of a text that begin on the lines that the spec asks for; without such lines, all."""
        if not self.asked:
            return corpus
        lines = corpus.lines.tolist()
        require(self.asked, lines, "evaluation.rows")
        return corpus.take(np.flatnonzero([line in self.asked for line in lines]))

    def setting(self, machine: Machine, stop: StopFlag, ranks: Ranks) -> Setting:
        """Return the setting for scoring one model."""
        room = self.max_length * self.spec.evaluation.per_device_eval_batch_size
        passes = Passes(room, _HEADS_OF_DOCUMENTS.get(self.task, "likelihoods"))
        return Setting(self.spec, machine, self.journal, stop, ranks, self.max_length, passes)

    def read(self, tokenizer: PreTrainedTokenizerFast, setting: Setting) -> Reading:
        """Read the rows as `score` will, without a model; `setting.passes` counts what will go through one.

        Answers to be generated are counted as long as they may be.
        """
        if self.task in _HEADS_OF_DOCUMENTS:
            return read_documents(self._seen(tokenizer), setting)
        read = read_prompts if self.task == "generate" else read_choices
        return read(self.source, self.shots, tokenizer, setting)

    def score(self, subject: Subject, corpus: Corpus | None, setting: Setting) -> Scores:
        """Score the rows with a model; for tasks that score documents, `corpus` holds them."""
        if corpus is not None:
            return (token_scores if self.task == "tokens" else loss_scores)(corpus, subject, setting)
        scores = generation_scores if self.task == "generate" else choice_scores
        return scores(self.source, self.shots, subject, setting)


def _task_of(spec: EvalSpec, rows: list[SourceRow]) -> str:
    """Return the spec's task, or for `auto` the one that suits the rows.

    Raises:
        SpecError: the rows do not suit the task.
    """
    asked = spec.evaluation.task
    choice = isinstance(rows[0].row, MultipleChoice)
    task = asked if asked != "auto" else "multiple_choice" if choice else "loss"
    fits = {
        "loss": not choice,
        "tokens": not choice,
        "multiple_choice": all(isinstance(row.row, MultipleChoice) for row in rows),
        "generate": all(isinstance(row.row, list) for row in rows),
    }
    if not fits[task] or (task in {"loss", "tokens"} and len(rows) > 1):
        raise SpecError(
            "wrong_task",
            f"the rows of eval_file and fewshot_file do not suit task {task!r}",
            "multiple_choice takes rows with question, choices and answer; generate takes rows with answers; "
            "loss and tokens take no fewshot_file.",
        )
    return task


def _rows_of(path: Path, lines: set[int]) -> list[SourceRow]:
    """Read the rows on the given lines, or all rows if none are given."""
    if not lines:
        return read_source(path, "evals")
    file = scan(path, "evals", split_seed=None)
    rows_on(file, lines, "evaluation.rows")
    return rows_near(file, lines)
