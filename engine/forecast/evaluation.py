"""The forecast of an evaluation: its rows, read and batched as the evaluation will do it."""

from contextlib import closing
from functools import reduce
from typing import Any

from engine.dist.ranks import Ranks
from engine.effort import Model
from engine.forecast.case import ScoringCase
from engine.forecast.outlook import Needs, pinned
from engine.forecast.runtime import Runtime
from engine.journal import Journal
from engine.kinds.eval.objective import EvalObjective, Weights
from engine.kinds.eval.reading import Reading
from engine.kinds.eval.spec import EvalSpec
from engine.passes import Passes
from engine.plan import Efforts
from engine.plan.work import parameters_of, passed_parameters_of, two_nd
from engine.precision import Machine
from engine.preview.statistics import described
from engine.rundir import RunDirectory
from engine.stop import StopFlag


class EvaluationOutlook:
    """The outlook of an evaluation. A step is a batch through a model; a model to compare with has batches of its own.

    Raises:
        StopRequested: asked to stop before the end.
        EngineError: the evaluation cannot be carried out, as its rows show.
    """

    def __init__(self, run: RunDirectory, spec: EvalSpec, stop: StopFlag) -> None:
        self._asked, self._stop = spec, stop
        self.machine = Machine.choose(spec.resources.device, spec.evaluation.precision)
        self.ranks = spec.resources.world_size
        with closing(Journal(run.events)) as journal:
            self._objective = EvalObjective(run, spec, journal)
            self._weights = self._objective.weights()
            read = [self._read(weights) for weights in self._weights]
        self._reading, self._passes = read[0][0], [passes for _, passes in read]

    def _read(self, weights: Weights) -> tuple[Reading, Passes]:
        setting = self._objective.setting(self.machine, self._stop, Ranks(0, self.ranks))
        return self._objective.read(weights.tokenizer(), setting), setting.passes

    def spec(self, zero_stage: int | None) -> EvalSpec:
        decided = {"precision": self.machine.precision, "task": self._objective.task}
        evaluation = self._asked.evaluation.model_copy(update=decided)
        resources = pinned(self._asked.resources, self.machine, zero_stage)
        return self._asked.model_copy(update={"evaluation": evaluation, "resources": resources})

    def counts(self) -> dict[str, Any]:
        reading, first = self._reading, self._passes[0]
        lines = {"truncated": reading.truncated, "dropped": reading.dropped, "no_trained_token": reading.untrained}
        counts = {"documents": reading.documents, "tokens": reading.tokens, "trained_tokens": reading.labels}
        return {
            "steps": sum(passes.steps for passes in self._passes),
            "tokens": sum(passes.all.tokens for passes in self._passes),
            "trained_tokens": sum(passes.all.labels for passes in self._passes),
            "exact": self._objective.task != "generate",
            "packing_efficiency": first.filled,
            "files": [{"file": self._asked.eval_file} | described(reading.lengths, counts, lines, complete=True)],
            "validation_rows": 0,
        }

    def needs(self, runtime: Runtime | None, room: int) -> Needs:  # noqa: ARG002 - evaluations are not divided
        models = [Model.loaded(*weights, self.machine) for weights in self._weights]
        taken = list(zip(models, self._passes, strict=True))
        efforts = reduce(Efforts.plus, (model.scoring(passes) for model, passes in taken))
        cases = [
            ScoringCase(self._asked, model.shape, passes.batch, model.setting, runtime and runtime.bytes(0))
            for model, passes in taken
        ]
        return Needs(
            case=max(cases, key=lambda case: case.plan().total),
            zero_stage=0,
            parameters=parameters_of(models[0].shape),
            trainable_parameters=0,
            flops={
                "training": efforts.whole.flops,
                "six_nd": sum(two_nd(passed_parameters_of(model.shape), passes.all.tokens) for model, passes in taken),
                "all": efforts.whole.flops,
            },
            efforts=efforts,
            method=self._objective.task,
        )
