"""Which evaluated step is the best, and whether a better one is still to be hoped for."""

import math
from collections.abc import Mapping
from pathlib import Path

from engine.checkpoint import Progress, folder_of
from engine.journal import Journal
from engine.parts import Checkpoints


class Selection:
    """`metric_for_best_model` applied to a run's evaluations; what it remembers is part of the run's progress."""

    def __init__(self, rules: Checkpoints, progress: Progress) -> None:
        self.rules, self.progress = rules, progress
        self.metric = rules.metric_for_best_model

    def gain(self, metrics: Mapping[str, float], over: Mapping[str, float]) -> float:
        """By how much the metric of one evaluation is better than that of another; NaN where it cannot be told."""
        difference = metrics.get(self.metric, math.nan) - over.get(self.metric, math.nan)
        return difference if self.rules.greater_is_better else -difference

    def nothing_held_out(self, journal: Journal) -> None:
        """Say what is not going to happen: a small file is not split, and its job is not evaluated."""
        if self.rules.early_stopping_patience is not None:
            journal.log("warn", "early_stopping_off", "no rows are held out, so the run cannot stop early")

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Count the evaluations in a row that brought nothing, as Hugging Face's EarlyStoppingCallback does."""
        progress = self.progress
        gain = self.gain(metrics, progress.best_eval_metrics) if progress.best_eval_metrics else self._first(metrics)
        progress.evals_without_gain = (
            0 if gain > self.rules.early_stopping_threshold else progress.evals_without_gain + 1
        )
        if gain > 0:
            progress.best_eval_metrics = metrics

    def _first(self, metrics: Mapping[str, float]) -> float:
        """What an evaluation gains over none: nothing where its metric is no number, which no later one would beat."""
        return 0.0 if math.isnan(metrics.get(self.metric, math.nan)) else math.inf

    def out_of_patience(self) -> bool:
        patience = self.rules.early_stopping_patience
        return patience is not None and self.progress.evals_without_gain >= patience

    def saved(self, metrics: dict[str, float]) -> bool:
        """Whether the step that is being saved, and scored this, is the best of the saved ones; it is remembered."""
        progress = self.progress
        if not self._first(metrics) or (
            progress.best_step is not None and not self.gain(metrics, progress.best_metrics) > 0
        ):
            return False
        progress.best_step, progress.best_metrics = progress.step, metrics
        return True

    def better_checkpoint(self, checkpoints: Path, journal: Journal) -> Path | None:
        """The best checkpoint's folder, when an earlier step is better than the last one."""
        progress = self.progress
        if progress.best_step in {None, progress.step}:
            return None
        assert progress.best_step is not None, "checked above"
        if progress.evaluated_step == progress.step and self.gain(progress.eval_metrics, progress.best_metrics) >= 0:
            return None
        folder = folder_of(checkpoints, progress.best_step)
        extreme = "highest" if self.rules.greater_is_better else "lowest"
        told = f"step {progress.best_step} has the {extreme} {self.metric}, {progress.best_metrics[self.metric]:.4f}"
        if not folder.exists():
            journal.log("warn", "best_checkpoint_gone", f"{told}, but is no longer on disk; the last step is exported")
            return None
        journal.log("info", "load_best", f"{told}; it is exported", step=progress.best_step)
        return folder
