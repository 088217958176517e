"""Jobs that continue an adapter: the fields that the spec leaves at their defaults are those of the adapter."""

from engine.jobs import AnySpec, auto_rate
from engine.journal import Journal
from engine.model.adapters import SHAPE, tuning_of
from engine.parts import AdapterTuning, TrainingSpec
from engine.rundir import RunDirectory


def with_adapter_shape(run: RunDirectory, spec: AnySpec) -> AnySpec:
    """Return the spec with the fields of the adapter's shape that are at their defaults filled in from the adapter.

    Fields that contradict the adapter stay; loading it refuses them.

    Raises:
        SpecError: the adapter is not of a kind that can be trained.
    """
    tuning = spec.adapter() if isinstance(spec, TrainingSpec) else None
    if tuning is None or run.adapter is None:
        return spec
    own = tuning_of(run.adapter)
    unset = [name for name in SHAPE if getattr(tuning, name) == AdapterTuning.model_fields[name].default]
    filled = tuning.model_copy(update={name: getattr(own, name) for name in unset})
    return spec.model_copy(update={"tuning": filled})


def warn_of_unfit_rate(asked: AnySpec, filled: AnySpec, journal: Journal) -> None:
    """Warn if the learning rate was `auto`, resolved before the adapter was known, and differs for the adapter's shape."""
    if not (isinstance(asked, TrainingSpec) and isinstance(filled, TrainingSpec)):
        return
    rate, fitting = asked.hyperparameters.learning_rate, auto_rate(filled)
    if rate == auto_rate(asked) != fitting:
        journal.log(
            "warn",
            "rate_of_another_shape",
            f"learning_rate is {rate:g}, the default for an adapter of the default shape; for one of this shape it is {fitting:g}",
            learning_rate=rate,
            fitting=fitting,
        )
