"""A forecast: all that a job will come to, told by the code that will carry it out."""

from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from engine.errors import SpecError
from engine.forecast.duration import estimate, past_runs
from engine.forecast.evaluation import EvaluationOutlook
from engine.forecast.outlook import Needs, Outlook
from engine.forecast.room import mend_of, room_bytes
from engine.forecast.training import TrainingOutlook
from engine.jobs import spec_of
from engine.kinds.eval.spec import EvalSpec
from engine.material import material_of
from engine.measure import matmul_tflops
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.stop import StopFlag

_rate = lru_cache(maxsize=4)(matmul_tflops)


def forecast(root: Path, asked: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    """Of a run directory; `asked["past"]` are runs that have ended, as the service tells of them (engine.forecast.duration).

    Raises:
        StopRequested: asked to stop on the way.
        EngineError: the job cannot be carried out, as far as its rows tell.
    """
    job = _looked_at(root, stop)
    spec, machine, past = job.spec(), job.machine, asked["past"]
    told = {
        "spec": spec.model_dump(mode="json"),
        **job.counts(),
        "ranks": spec.resources.nproc_per_node,
        "matmul_tflops": _rate(machine),
    }
    try:
        return told | {"unplanned": None} | _judged(job.needs(_runtime(past, machine.device.type)), machine, past)
    except SpecError as error:
        nothing = dict.fromkeys(("parameters", "trainable_parameters", "memory", "room_bytes", "fits", "mend", "flops"))
        return told | nothing | {"effort": None, "eta": None, "unplanned": error.message}


def _looked_at(root: Path, stop: StopFlag) -> Outlook:
    run = RunDirectory(root)
    spec = spec_of(run)
    if isinstance(spec, EvalSpec):
        return EvaluationOutlook(run, spec, stop)
    return TrainingOutlook(material_of(root), stop)


def _judged(needs: Needs, machine: Machine, past: list[Any]) -> dict[str, Any]:
    """What is needed beside what there is: memory, operations and time."""
    memory, room = needs.case.plan(), room_bytes(machine)
    mend = None if memory.total <= room else mend_of(needs.case, room)
    runs = past_runs(past, machine.device.type, machine.precision)
    seconds = estimate(needs.efforts, needs.method, runs, matmul_tflops=_rate(machine))
    return {
        "parameters": needs.parameters,
        "trainable_parameters": needs.trainable_parameters,
        "memory": memory.components(),
        "room_bytes": room,
        "fits": memory.total <= room,
        "mend": mend and {"edits": [edit._asdict() for edit in mend.edits], "total_bytes": mend.total},
        "flops": needs.flops,
        "effort": needs.efforts.told(),
        "eta": seconds._asdict(),
    }


def _runtime(past: list[dict[str, Any]], device: str) -> int | None:
    """Half of the runs that have ended on such a device held less besides their tensors."""
    told = [run["runtime_bytes"] for run in past if run["device"] == device]
    return round(median(told)) if told else None
