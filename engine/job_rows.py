"""The rows of a job as it would train on them, made without loading its weights."""

from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from engine.continuation import with_adapter_shape
from engine.data.mixture import Mixture
from engine.data.rows import Rows
from engine.errors import SpecError
from engine.jobs import spec_of
from engine.journal import Journal
from engine.objectives import objective_of
from engine.parts import TrainingSpec
from engine.rundir import RunDirectory

_KEPT = 4
"""Jobs whose rows are kept in memory: a preview is usually followed by another of the same job."""


class Material(NamedTuple):
    """A job that trains, and its rows as documents."""

    spec: TrainingSpec
    tokenizer: PreTrainedTokenizerFast
    rows: Rows
    config: dict[str, Any]
    """The model's config.json."""

    @property
    def mixture(self) -> Mixture:
        assert self.rows.train is not None, "a job that trains has rows"
        return Mixture.of(self.rows.train)


@lru_cache(maxsize=_KEPT)
def material_of(root: Path) -> Material:
    """Return the job and the rows of a run directory, whose contents must not change.

    Raises:
        EngineError: the job's spec or rows show that it cannot be carried out.
    """
    run = RunDirectory(root)
    asked = spec_of(run)
    spec = with_adapter_shape(run, asked)
    if not isinstance(spec, TrainingSpec):
        raise SpecError("nothing_trained", f"a job of kind {spec.kind} trains nothing", "Ask for a job that trains.")
    with closing(Journal(run.events)) as journal:
        objective = objective_of(run, asked, journal)
        tokenizer = objective.tokenizer()
        return Material(spec, tokenizer, objective.documents(tokenizer), objective.config(tokenizer))
