"""A forecast: all that a job will come to, told by the code that will carry it out."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import SpecError
from engine.forecast.duration import estimate, past_runs
from engine.forecast.evaluation import EvaluationOutlook
from engine.forecast.outlook import Needs, Outlook
from engine.forecast.room import mend_of, room_bytes
from engine.forecast.runtime import Runtime
from engine.forecast.training import TrainingOutlook
from engine.jobs import spec_of
from engine.kinds.eval.spec import EvalSpec
from engine.material import material_of
from engine.measure import matmul_tflops
from engine.plan.shape import NO_PLAN
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.stop import StopFlag

_rate = lru_cache(maxsize=4)(matmul_tflops)
_JUDGED = (
    "parameters", "trainable_parameters", "memory", "zero_stage", "on_disk_bytes", "room_bytes", "fits", "mend", "flops",
    "effort", "eta",
)  # fmt: skip
"""What is not known of a job that nothing is planned for."""


def forecast(root: Path, asked: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    """Of a run directory; `asked["past"]` are runs that have ended, as the service tells of them (engine.forecast.duration).

    Raises:
        StopRequested: asked to stop on the way.
        EngineError: the job cannot be carried out, as far as its rows tell.
    """
    job = _looked_at(root, stop)
    machine, ranks = job.machine, job.ranks
    past = [run for run in asked["past"] if run["device"] == machine.device.type and run.get("ranks", 1) == ranks]
    resources = job.spec(None).resources
    room = room_bytes(machine, resources.nproc_per_node)
    # On a CPU those of a machine share its cores.
    rate = _rate(machine) * (ranks if machine.device.type == "cuda" else resources.num_nodes)
    try:
        needs = job.needs(Runtime.learnt(past), room)
        spec, judged = job.spec(needs.zero_stage), {"unplanned": None} | _judged(needs, room, rate, machine, past)
    except SpecError as error:
        if error.code != NO_PLAN:
            raise
        spec, judged = job.spec(None), dict.fromkeys(_JUDGED) | {"unplanned": error.message}
    return {
        "spec": spec.model_dump(mode="json"),
        **job.counts(),
        "ranks": ranks,
        "matmul_tflops": _rate(machine),
        **judged,
    }


def _looked_at(root: Path, stop: StopFlag) -> Outlook:
    run = RunDirectory(root)
    spec = spec_of(run)
    if isinstance(spec, EvalSpec):
        return EvaluationOutlook(run, spec, stop)
    return TrainingOutlook(material_of(root), stop)


def _judged(needs: Needs, room: int, rate: float, machine: Machine, past: list[Any]) -> dict[str, Any]:
    """What is needed beside what there is: memory and room of a rank, operations and time of all, and their rate."""
    memory = needs.case.plan()
    mend = None if memory.total <= room else mend_of(needs.case, room)
    seconds = estimate(needs.efforts, needs.method, past_runs(past, machine.precision), matmul_tflops=rate)
    return {
        "parameters": needs.parameters,
        "trainable_parameters": needs.trainable_parameters,
        "memory": memory.components(),
        "zero_stage": needs.zero_stage,
        "on_disk_bytes": needs.on_disk,
        "room_bytes": room,
        "fits": memory.total <= room,
        "mend": mend and {"edits": [edit._asdict() for edit in mend.edits], "total_bytes": mend.total},
        "flops": needs.flops,
        "effort": needs.efforts.told(),
        "eta": seconds._asdict(),
    }
