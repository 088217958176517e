"""A job that goes on from an adapter, in the shape of that adapter: what its spec leaves at a default says nothing."""

from engine.jobs import AnySpec, auto_rate
from engine.journal import Journal
from engine.model.adapters import SHAPE, tuning_of
from engine.parts import AdapterTuning, TrainingSpec
from engine.rundir import RunDirectory


def onward(run: RunDirectory, spec: AnySpec) -> AnySpec:
    """The spec as the job carries it out; what it says against the adapter is left for the loading to refuse.

    Raises:
        SpecError: it is no adapter of this kind.
    """
    tuning = spec.adapter() if isinstance(spec, TrainingSpec) else None
    if tuning is None or run.adapter is None:
        return spec
    own = tuning_of(run.adapter)
    unsaid = [name for name in SHAPE if getattr(tuning, name) == AdapterTuning.model_fields[name].default]
    taken = tuning.model_copy(update={name: getattr(own, name) for name in unsaid})
    return spec.model_copy(update={"tuning": taken})


def tell_rate(asked: AnySpec, taken: AnySpec, journal: Journal) -> None:
    """Warn where the rate is what `auto` stood for before the adapter was known, and would be another for its shape."""
    if not (isinstance(asked, TrainingSpec) and isinstance(taken, TrainingSpec)):
        return
    rate, fitting = asked.hyperparameters.learning_rate, auto_rate(taken)
    if rate == auto_rate(asked) != fitting:
        journal.log(
            "warn",
            "rate_of_another_shape",
            f"learning_rate is {rate:g}, which suits an adapter of the default shape; one of this shape has {fitting:g}",
            learning_rate=rate,
            fitting=fitting,
        )
