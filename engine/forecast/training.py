"""The forecast of a training job: its rows, drawn as the training will draw them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.effort import Model, Passed, workload_of
from engine.forecast.case import TrainingCase
from engine.forecast.outlook import Needs, pinned
from engine.forecast.room import room_elsewhere
from engine.forecast.runtime import Runtime
from engine.forecast.walk import walk
from engine.job_rows import material_of
from engine.parts import TrainingSpec
from engine.plan import Work, kept_shapes, new_shapes
from engine.plan.ranks import shapes_of_ranks
from engine.plan.weights import on_disk, trained_weights
from engine.plan.work import parameters_of, passed_parameters_of, six_nd
from engine.precision import Machine
from engine.preview.statistics import statistics
from engine.stop import StopFlag


class TrainingOutlook:
    """The outlook of a training job. Raises StopRequested if asked to stop before the end."""

    def __init__(self, root: Path, stop: StopFlag) -> None:
        material = material_of(root)
        self._root, self._material, self._asked = root, material, material.spec
        self.machine = Machine.choose(self._asked.resources.device, self._asked.hyperparameters.precision)
        self.ranks = self._asked.resources.world_size
        self._walked = walk(material, self.machine.step, stop)
        self._files = statistics(material, stop)

    def spec(self, zero_stage: int | None) -> TrainingSpec:
        hyper = self._asked.hyperparameters.model_copy(update={"precision": self.machine.precision})
        resources = pinned(self._asked.resources, self.machine, zero_stage)
        return self._asked.model_copy(update={"hyperparameters": hyper, "resources": resources})

    def counts(self) -> dict[str, Any]:
        walked, held_out = self._walked, self._material.rows.validation
        held_out_rows = 0 if held_out is None else held_out.row_count()
        may_stop = held_out_rows > 0 and self._asked.checkpoints.early_stopping_patience is not None
        return {
            "steps": walked.steps,
            "tokens": walked.counts.tokens,
            "trained_tokens": walked.counts.labels,
            "exact": walked.exact and not may_stop,
            "packing_efficiency": walked.filled,
            "files": self._files,
            "validation_rows": held_out_rows,
        }

    def needs(self, runtime: Runtime | None, room: int) -> Needs:
        spec, rows, walked = self._asked, self._material.rows, self._walked
        stage = spec.resources.parallel.zero_stage
        model = Model.of(self._material.config, spec, self.machine)
        shape, setting = model
        passed = Passed.of_job(rows, spec, walked.steps, walked.counts, walked.variety)
        efforts = model.efforts(spec, passed)
        work = workload_of(spec, walked.largest, walked.longest, rows, spec.resources.replicas)
        shapes = kept_shapes(new_shapes(shape, setting, walked.variety))
        work = replace(work, rows=walked.largest_rows, shapes=shapes)
        besides = runtime and runtime.bytes(shapes)
        elsewhere = room_elsewhere(self._root, spec.resources.nproc_per_node)
        case = TrainingCase(spec, shape, work, setting, besides, self.ranks, elsewhere=elsewhere)
        case = case.in_room(room) if stage == "auto" or self.ranks == 1 else case._replace(zero_stage=stage)
        return Needs(
            case=case,
            zero_stage=case.zero_stage,
            parameters=parameters_of(shape),
            trainable_parameters=trained_weights(shape, setting),
            flops={
                "training": Work.of(shape, setting).training(passed.trained),
                "six_nd": six_nd(passed_parameters_of(shape), passed.trained.tokens),
                "all": efforts.whole.flops,
            },
            efforts=efforts,
            method=setting.tuning.method,
            on_disk=max(on_disk(part, setting) for part in shapes_of_ranks(shape, setting)),
        )
