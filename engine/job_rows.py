"""The rows of a job as it would train on them, made without its weights."""

from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from engine.continuation import onward
from engine.data.mixture import Mixture, Rows
from engine.errors import SpecError
from engine.jobs import spec_of
from engine.journal import Journal
from engine.objectives import objective_of
from engine.parts import TrainingSpec
from engine.rundir import RunDirectory

_KEPT = 4
"""Jobs whose rows stay in memory: whoever looks at one asks again at once."""


class Material(NamedTuple):
    """A job that trains, and its rows as documents."""

    spec: TrainingSpec
    tokenizer: PreTrainedTokenizerFast
    rows: Rows
    config: dict[str, Any]
    """Of the model (config.json)."""

    @property
    def mixture(self) -> Mixture:
        assert self.rows.train is not None, "a job that trains has rows"
        return Mixture.of(self.rows.train)


@lru_cache(maxsize=_KEPT)
def material_of(root: Path) -> Material:
    """Of a run directory, which holds the same whenever it is asked for.

    Raises:
        EngineError: the job cannot be carried out, as far as its rows tell.
    """
    run = RunDirectory(root)
    asked = spec_of(run)
    spec = onward(run, asked)
    if not isinstance(spec, TrainingSpec):
        raise SpecError("nothing_trained", f"a job of kind {spec.kind} trains nothing", "Ask for a job that trains.")
    with closing(Journal(run.events)) as journal:
        objective = objective_of(run, asked, journal)
        tokenizer = objective.tokenizer()
        return Material(spec, tokenizer, objective.documents(tokenizer), objective.config(tokenizer))
