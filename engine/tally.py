"""The tally of a run: its work, counted as it goes, for the event `used` at its end."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from engine.data.corpus import Batch
from engine.effort import Model, Passed, workload_of
from engine.errors import SpecError
from engine.forecast.case import TrainingCase
from engine.kinds.eval.objective import EvalObjective
from engine.measure import StepWork
from engine.model.forward import decoder_of
from engine.pace import Pace
from engine.parts import FullTuning, TrainingSpec
from engine.passes import Passes
from engine.plan import Counts, Efforts, Variety, Work
from engine.session import Session


class Tally:
    """Counts the steps of this process; `step` is what lengths are rounded up to multiples of."""

    def __init__(self, step: int) -> None:
        self._all = self._largest = Counts()
        self._longest = 0
        self._steps = 0
        self.variety = Variety(step)

    def add(self, batches: Sequence[Batch], work: StepWork, ranks: int) -> None:
        """Count a step: this rank's micro-batches, and the work of all ranks."""
        self._steps += 1
        taken = [batch for batch in batches if batch.counts]
        done = Counts(len(taken) * ranks, int(work.tokens), int(work.labels), work.attended)
        self._all = self._all.plus(done)
        for batch in batches:
            counts = Counts(1, batch.tokens, batch.count, batch.attended)
            self._largest = max(self._largest, counts, key=lambda one: one.tokens)
            self._longest = max(self._longest, *batch.segments)
        for batch in taken:
            self.see(batch)

    def see(self, batch: Batch) -> None:
        """Record the lengths in a batch."""
        if self.variety.step > 1:
            self.variety.batch(Counts(1, batch.tokens, batch.count))
            shared = [end - begin for begin, end in batch.prefixes] or [0] * len(batch.segments)
            whole, asked = (map(add, own, shared) for own in (batch.segments, batch.first_labelled))
            self.variety.documents(whole, shared, asked)

    def usage(self, session: Session, spec: TrainingSpec, held: dict[str, int], pace: Pace) -> dict[str, Any]:
        """Return the fields of the event `used`; those that need a plan are left out for models and tunings without one."""
        spent = pace.spent_s
        fields = {
            "steps": self._steps,
            "tokens": self._all.tokens,
            "trained_tokens": self._all.labels,
            "device": session.machine.device.type,
            "precision": session.machine.precision,
            "ranks": session.ranks.count,
            "method": getattr(spec, "tuning", FullTuning()).method,
            "peak_memory_bytes": held["total"],
            "part_seconds": {"steps": spent["step"], "scoring": spent["evaluation"], "samples": spent["samples"]},
        }
        try:
            model = Model.of(decoder_of(session.subject.model).config.to_dict(), spec, session.machine)
            work = workload_of(spec, self._largest, self._longest, session.rows, session.replicas.count)
            case = TrainingCase(
                spec, model.shape, work, model.setting, None, session.ranks.count, session.division.zero_stage
            )
            tensors = case.plan().tensors
        except SpecError:
            return fields
        passed = Passed.of_job(session.rows, spec, self._steps, self._all, self.variety)
        passed = passed._replace(evaluations=pace.times("evaluation"), saves=pace.times("save"))
        return fields | {
            "runtime_bytes": held["total"] - tensors,
            "flops": Work.of(*model).training(self._all),
            "effort": model.efforts(spec, passed).as_json(),
        }


class EvalPass(NamedTuple):
    """The passes of one evaluated model, the most bytes held meanwhile, and the seconds that it took."""

    passes: Passes
    held: int
    seconds: float


def usage_of(session: Session, objective: EvalObjective, scored: Sequence[EvalPass]) -> dict[str, Any]:
    """Return the fields of the event `used` for an evaluation: its steps are batches, its trained tokens those scored."""
    held = max(one.held for one in scored)
    fields = {
        "steps": sum(one.passes.steps for one in scored),
        "tokens": sum(one.passes.all.tokens for one in scored),
        "trained_tokens": sum(one.passes.all.labels for one in scored),
        "device": session.machine.device.type,
        "precision": session.machine.precision,
        "ranks": session.ranks.count,
        "method": objective.task,
        "peak_memory_bytes": held,
        "part_seconds": {"steps": 0.0, "scoring": sum(one.seconds for one in scored)},
    }
    try:
        models = [Model.loaded(*weights, session.machine) for weights in objective.weights()]
        plans = [model.memory(one.passes) for model, one in zip(models, scored, strict=True)]
    except SpecError:
        return fields
    efforts = reduce(Efforts.plus, (model.scoring(one.passes) for model, one in zip(models, scored, strict=True)))
    return fields | {
        "runtime_bytes": held - max(plan.tensors for plan in plans),
        "flops": efforts.whole.flops,
        "effort": efforts.as_json(),
    }
