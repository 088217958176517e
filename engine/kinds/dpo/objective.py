"""Direct preference optimization: the margin between two answers, relative to the margin of the starting weights."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from engine.batch_loss import BatchLoss, RowShares, Sums
from engine.data.corpus import Batch, Corpus
from engine.data.exclusion import without
from engine.data.heldout import held_out_corpus
from engine.data.pairs import PAIR, pair_corpus
from engine.data.rows import Rows
from engine.data.source import SourceRow, read_sources, scan
from engine.errors import SpecError
from engine.journal import Journal
from engine.kinds.dpo.losses import AVERAGED, LOSSES
from engine.kinds.dpo.spec import DpoSpec
from engine.model.forward import decoder_of
from engine.model.layer_offload import offloaded_layers_of
from engine.model.load import Subject
from engine.model.logprobs import document_logprobs
from engine.model.tuned import Start
from engine.parts import AdapterTuning
from engine.plan.workload import rows_at_once
from engine.precision import Machine
from engine.reference import ReferenceCache, reference_scores
from engine.rundir import RunDirectory


class DpoObjective:
    """Pairs of documents in packed rows. A cached reference is a number per document and needs no second model."""

    def __init__(self, run: RunDirectory, spec: DpoSpec, journal: Journal) -> None:
        self.run, self.spec, self.journal = run, spec, journal
        validation = run.data("validation")
        split = validation is None and spec.validation_file == "auto"
        file = scan(run.required_data("train"), spec.PURPOSE, split_seed=spec.seed if split else None)
        self.sources = read_sources(without(file, spec.exclude_rows, journal), validation, spec.PURPOSE)
        self.start = Start(run, journal, spec.tuning, spec.model, spec.hyperparameters)
        self.machine: Machine | None = None
        self.resumed = False
        self.frozen: nn.Module | None = None
        if spec.dpo.reference == "disabled_adapter" and run.adapter is not None:
            raise SpecError(
                "reference_is_not_the_start",
                "the job continues an adapter; with the adapter disabled, the model is not the one that the job starts from",
                "Set dpo.reference to 'cached' or 'frozen_copy'.",
            )

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        self.machine, self.resumed = machine, folder is not None
        return self.start.load(folder, machine)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.start.tokenizer()

    def config(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:  # noqa: ARG002 - only a new model's config depends on it
        return self.start.config()

    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows:
        train = self._corpus(self.sources.train, tokenizer, "training")
        tokenized = partial(self._corpus, tokenizer=tokenizer, name="validation")
        once = self.spec.dpo.reference == "cached"
        held_out = held_out_corpus(self.sources, tokenized, self.journal)
        return Rows(train, held_out, "once" if once else "each_step")

    def rows(self, subject: Subject) -> Rows:
        made = self.documents(subject.tokenizer)
        if self.spec.dpo.reference == "cached":
            return self._with_reference(made, subject)
        if self.spec.dpo.reference == "frozen_copy":
            self.frozen = self._frozen_copy(subject)
        return made

    def _corpus(self, rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, name: str) -> Corpus:
        hyper = self.spec.hyperparameters
        made = pair_corpus(rows, tokenizer, max_length=hyper.max_length, long_rows=hyper.long_rows)
        made.report(self.journal, name, hyper.max_length)
        return made.corpus

    def _with_reference(self, rows: Rows, subject: Subject) -> Rows:
        """Return both corpora with the scores of the starting weights, from the cache or computed now."""
        assert self.machine is not None, "the subject was loaded"
        budget = self._token_budget()
        cache = ReferenceCache(self.run, self.machine, self.spec.tuning.method, budget, journal=self.journal)
        corpora = [corpus for corpus in (rows.train, rows.validation) if isinstance(corpus, Corpus)]
        scores = [cache.find(corpus) for corpus in corpora]
        missing = [number for number, found in enumerate(scores) if found is None]
        if missing:
            with self._starting_weights(subject) as model:
                for number in missing:
                    scores[number] = reference_scores(model, corpora[number], self.machine, budget, cache)
            count = sum(len(corpora[number]) for number in missing)
            self.journal.log(
                "info", "reference_scored", f"scored {count} answers with the starting weights", count=count
            )
        made = [replace(corpus, reference=found) for corpus, found in zip(corpora, scores, strict=True)]
        return replace(rows, train=made[0], validation=made[1] if rows.validation is not None else None)

    @contextmanager
    def _starting_weights(self, subject: Subject) -> Iterator[nn.Module]:
        """Yield the starting weights, without a second copy if possible: only a resumed run has other weights."""
        model: Any = subject.model
        if isinstance(self.spec.tuning, AdapterTuning) and self.run.adapter is None:
            with model.disable_adapter():
                yield model
        elif self.resumed:
            assert self.machine is not None, "the subject was loaded"
            yield self._read_anew(self.machine)
        else:
            yield model

    def _frozen_copy(self, subject: Subject) -> nn.Module:
        assert self.machine is not None, "the subject was loaded"
        if self.resumed or offloaded_layers_of(decoder_of(subject.model)) is not None:
            start = self._read_anew(self.machine)
        else:
            start = copy.deepcopy(subject.model)
        return start.requires_grad_(False).eval()

    def _read_anew(self, machine: Machine) -> nn.Module:
        """Load the starting weights again, without a draw from the run's generators: a new adapter is drawn, but adds zero."""
        devices = [machine.device] if machine.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return self.start.load(None, machine).model

    def _reference(self, model: Any, batch: Batch) -> Tensor:
        """Return [S] the log-probability of each document under the starting weights."""
        if batch.reference_S is not None:
            return batch.reference_S
        if self.frozen is None and not hasattr(model, "disable_adapter"):  # merged: there is no adapter to disable
            assert self.machine is not None, "the subject was loaded"
            self.frozen = self._read_anew(self.machine).requires_grad_(False).eval()
        without_adapter = nullcontext() if self.frozen is not None else model.disable_adapter()
        with torch.no_grad(), without_adapter:
            return document_logprobs(self.frozen or model, batch)[0]

    def _token_budget(self) -> int:
        """Return the most tokens that a rank trains on at once, which it has memory for."""
        hyper = self.spec.hyperparameters
        return hyper.max_length * rows_at_once(hyper, self.spec.resources.replicas) * PAIR

    def count(self, batch: Batch) -> int:
        return len(batch.lines) // PAIR

    def loss(self, model: nn.Module, batch: Batch) -> BatchLoss:
        """Return the loss summed over pairs, with TRL's metrics summed likewise."""
        spec = self.spec.dpo
        logps_S, tokens_S = document_logprobs(model, batch)
        ratios_S = logps_S - self._reference(model, batch)
        scaled_S = ratios_S / tokens_S if spec.loss_type in AVERAGED else ratios_S
        losses_B = LOSSES[spec.loss_type](scaled_S[::2] - scaled_S[1::2], spec)
        rewards_S, logps_S = spec.beta * ratios_S.detach(), logps_S.detach()
        margins_B = rewards_S[::2] - rewards_S[1::2]
        figures = {
            "rewards/chosen": rewards_S[::2].sum(),
            "rewards/rejected": rewards_S[1::2].sum(),
            "rewards/accuracies": (margins_B > 0).float().sum(),
            "rewards/margins": margins_B.sum(),
            "logps/chosen": logps_S[::2].sum(),
            "logps/rejected": logps_S[1::2].sum(),
        }
        shares = RowShares(batch.lines[::PAIR], (1,) * len(losses_B), losses_B.detach())
        return BatchLoss(losses_B.sum(), len(losses_B), figures, shares)

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        """Return the figures of an evaluation.

        eval_length_baseline is the accuracy of always preferring the longer answer, or the shorter, whichever is better.
        """
        figures = {f"eval_{name}": value for name, value in sums.means().items()}
        return {
            "eval_loss": float(sums.total) / sums.counted,
            "eval_accuracy": figures["eval_rewards/accuracies"],
            "eval_length_baseline": _length_baseline(corpus),
            **figures,
            "eval_rows": float(sums.counted),
        }


def _length_baseline(corpus: Corpus) -> float:
    lengths = np.add.reduceat(corpus.trained, corpus.starts[:-1], dtype=np.int64)
    longer = np.sign(lengths[::2] - lengths[1::2]) / 2 + 0.5
    return float(max(longer.mean(), 1 - longer.mean()))
