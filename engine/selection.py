"""The selection of the best evaluated step, and early stopping."""

import math
from collections.abc import Mapping
from pathlib import Path

from engine.checkpoint import Progress, folder_of
from engine.journal import Journal
from engine.parts import Checkpoints


class Selection:
    """Applies `metric_for_best_model` to a run's evaluations; its memory is part of the run's progress."""

    def __init__(self, rules: Checkpoints, progress: Progress) -> None:
        self.rules, self.progress = rules, progress
        self.metric = rules.metric_for_best_model

    def gain(self, metrics: Mapping[str, float], over: Mapping[str, float]) -> float:
        """Return by how much the metric of one evaluation is better than that of another; NaN if either is missing."""
        difference = metrics.get(self.metric, math.nan) - over.get(self.metric, math.nan)
        return difference if self.rules.greater_is_better else -difference

    def nothing_held_out(self, journal: Journal) -> None:
        """Warn that a job without held-out rows, as of a small file that is not split, cannot stop early."""
        if self.rules.early_stopping_patience is not None:
            journal.log("warn", "early_stopping_off", "no rows are held out, so the run cannot stop early")

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Count consecutive evaluations without a gain, as Hugging Face's EarlyStoppingCallback does."""
        progress = self.progress
        gain = self.gain(metrics, progress.best_eval_metrics) if progress.best_eval_metrics else self._first(metrics)
        progress.evals_without_gain = (
            0 if gain > self.rules.early_stopping_threshold else progress.evals_without_gain + 1
        )
        if gain > 0:
            progress.best_eval_metrics = metrics

    def _first(self, metrics: Mapping[str, float]) -> float:
        """Return the gain of the first evaluation: none if its metric is NaN, which no later one would beat."""
        return 0.0 if math.isnan(metrics.get(self.metric, math.nan)) else math.inf

    def out_of_patience(self) -> bool:
        patience = self.rules.early_stopping_patience
        return patience is not None and self.progress.evals_without_gain >= patience

    def saved(self, metrics: dict[str, float]) -> bool:
        """Return whether the step being saved, with these metrics, is the best of the saved steps; if so, record it."""
        progress = self.progress
        if not self._first(metrics) or (
            progress.best_step is not None and not self.gain(metrics, progress.best_metrics) > 0
        ):
            return False
        progress.best_step, progress.best_metrics = progress.step, metrics
        return True

    def better_checkpoint(self, checkpoints: Path, journal: Journal) -> Path | None:
        """Return the best checkpoint's folder if an earlier step is better than the last one."""
        progress = self.progress
        if progress.best_step in {None, progress.step}:
            return None
        assert progress.best_step is not None, "checked above"
        if progress.evaluated_step == progress.step and self.gain(progress.eval_metrics, progress.best_metrics) >= 0:
            return None
        folder = folder_of(checkpoints, progress.best_step)
        extreme = "highest" if self.rules.greater_is_better else "lowest"
        message = f"step {progress.best_step} has the {extreme} {self.metric}, {progress.best_metrics[self.metric]:.4f}"
        if not folder.exists():
            journal.log(
                "warn", "best_checkpoint_gone", f"{message}, but is no longer on disk; the last step is exported"
            )
            return None
        journal.log("info", "load_best", f"{message}; it is exported", step=progress.best_step)
        return folder
