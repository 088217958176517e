"""A forecast: all that a job will come to, told by the code that will carry it out."""

from functools import lru_cache
from statistics import median
from typing import Any

from engine.effort import Model, Passed, workload_of
from engine.errors import SpecError
from engine.forecast.duration import estimate, past_runs
from engine.forecast.room import Case, mend_of, room_bytes
from engine.forecast.walk import Walk, walk
from engine.material import Material
from engine.measure import matmul_tflops
from engine.parts import TrainingSpec
from engine.plan import Work
from engine.plan.memory import trained_weights
from engine.plan.work import parameters_of, six_nd
from engine.precision import Machine
from engine.preview.statistics import statistics
from engine.stop import StopFlag

_rate = lru_cache(maxsize=4)(matmul_tflops)


def forecast(material: Material, asked: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    """`asked["past"]` are runs that have ended, as the service tells of them (engine.forecast.duration).

    Raises:
        StopRequested: asked to stop on the way.
    """
    spec = material.spec
    machine = Machine.choose(spec.resources.device, spec.hyperparameters.precision)
    walked = walk(material, stop)
    told = {
        "spec": _pinned(spec, machine).model_dump(mode="json"),
        "steps": walked.steps,
        "tokens": walked.counts.tokens,
        "trained_tokens": walked.counts.labels,
        "exact": walked.exact,
        "ranks": spec.resources.nproc_per_node,
        "packing_efficiency": walked.filled,
        "files": statistics(material, stop),
        "validation_rows": 0 if material.rows.validation is None else material.rows.validation.row_count(),
        "matmul_tflops": _rate(machine),
    }
    try:
        model = Model.of(material.config, spec, machine)
        return told | {"unplanned": None} | _needs(material, model, walked, machine, asked["past"])
    except SpecError as error:
        nothing = dict.fromkeys(("parameters", "trainable_parameters", "memory", "room_bytes", "fits", "mend", "flops"))
        return told | nothing | {"effort": None, "eta": None, "unplanned": error.message}


def _pinned(spec: TrainingSpec, machine: Machine) -> TrainingSpec:
    """The spec with what this machine decided; several processes divide their memory as they find it, for the same model."""
    hyper = spec.hyperparameters.model_copy(update={"precision": machine.precision})
    update: dict[str, Any] = {"device": machine.device.type}
    if spec.resources.nproc_per_node == 1:
        update["parallel"] = spec.resources.parallel.model_copy(update={"zero_stage": 0})
    resources = spec.resources.model_copy(update=update)
    return spec.model_copy(update={"hyperparameters": hyper, "resources": resources})


def _needs(material: Material, model: Model, walked: Walk, machine: Machine, past: list[Any]) -> dict[str, Any]:
    """Memory, operations and time."""
    spec, (shape, setting) = material.spec, model
    passed = Passed.of_job(material.rows, spec, walked.steps, walked.counts)
    effort, work = model.effort(spec, passed), Work.of(shape, setting)
    case = Case(
        shape, workload_of(spec, walked.largest, walked.longest, material.rows), setting, _runtime(past, setting.device)
    )
    memory, room = case.plan(), room_bytes(machine)
    mend = None if memory.total <= room else mend_of(case, spec, room)
    seconds = estimate(
        effort,
        setting.tuning.method,
        past_runs(past, machine.device.type, machine.precision),
        matmul_tflops=_rate(machine),
    )
    return {
        "parameters": parameters_of(shape),
        "trainable_parameters": trained_weights(shape, setting),
        "memory": memory.components(),
        "room_bytes": room,
        "fits": memory.total <= room,
        "mend": mend and {"edits": [edit._asdict() for edit in mend.edits], "total_bytes": mend.total},
        "flops": {
            "training": work.training(passed.trained),
            "six_nd": six_nd(parameters_of(shape), passed.trained.tokens),
            "all": effort.flops,
        },
        "effort": effort._asdict(),
        "eta": seconds._asdict(),
    }


def _runtime(past: list[dict[str, Any]], device: str) -> int | None:
    """Half of the runs that have ended on such a device held less besides their tensors."""
    told = [run["runtime_bytes"] for run in past if run["device"] == device]
    return round(median(told)) if told else None
