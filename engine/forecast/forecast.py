"""The forecast of a job, computed by the code that will carry it out."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import SpecError
from engine.forecast.duration import Estimate, Past, estimate, past_runs
from engine.forecast.evaluation import EvaluationOutlook
from engine.forecast.outlook import Needs, Outlook
from engine.forecast.room import mend_of, room_bytes
from engine.forecast.runtime import Runtime
from engine.forecast.training import TrainingOutlook
from engine.jobs import AnySpec, spec_of
from engine.kinds.eval.spec import EvalSpec
from engine.measure import matmul_tflops
from engine.parts import TrainingSpec
from engine.plan import Effort
from engine.plan.shape import NO_PLAN
from engine.rundir import RunDirectory
from engine.stop import StopFlag

_rate = lru_cache(maxsize=4)(matmul_tflops)
_JUDGED = (
    "parameters", "trainable_parameters", "memory", "zero_stage", "on_disk_bytes", "room_bytes", "fits", "short_of", "mend",
    "flops", "effort", "eta",
)  # fmt: skip
"""The figures that are null for a job that no plan is made for."""


def forecast(root: Path, asked: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    """Forecast the job in a run directory; `asked["past"]` are the service's records of runs that have ended.

    Raises:
        StopRequested: asked to stop before the end.
        EngineError: the job cannot be carried out, as its rows show.
    """
    job = _outlook_of(root, stop)
    machine, ranks = job.machine, job.ranks
    past = [run for run in asked["past"] if run["device"] == machine.device.type and run.get("ranks", 1) == ranks]
    resources = job.spec(None).resources
    room = room_bytes(machine, resources.nproc_per_node)
    # On a CPU the processes of a machine share its cores.
    rate = _rate(machine) * (ranks if machine.device.type == "cuda" else resources.num_nodes)
    try:
        needs = job.needs(Runtime.learnt(past), room)
        spec, judged = job.spec(needs.zero_stage), {"unplanned": None} | _judged(needs, room)
        eta, in_time = _eta(needs, spec, past_runs(past, machine.precision), rate)
        judged |= {"eta": eta._asdict()}
    except SpecError as error:
        if error.code != NO_PLAN:
            raise
        spec, judged, in_time = job.spec(None), dict.fromkeys(_JUDGED) | {"unplanned": error.message}, True
    counts = job.counts()
    return {
        "spec": spec.model_dump(mode="json"),
        **counts,
        "exact": counts["exact"] and in_time,
        "ranks": ranks,
        "matmul_tflops": _rate(machine),
        **judged,
    }


def _outlook_of(root: Path, stop: StopFlag) -> Outlook:
    run = RunDirectory(root)
    spec = spec_of(run)
    if isinstance(spec, EvalSpec):
        return EvaluationOutlook(run, spec, stop)
    return TrainingOutlook(root, stop)


def _eta(needs: Needs, spec: AnySpec, past: list[Past], rate: float) -> tuple[Estimate, bool]:
    """Return the estimated duration, and whether the run is likely to do all its steps within max_minutes."""
    whole = estimate(needs.efforts, needs.method, past, matmul_tflops=rate)
    minutes = spec.resources.max_minutes if isinstance(spec, TrainingSpec) else None
    if minutes is None:
        return whole, True
    around = needs.efforts._replace(steps=Effort(), scoring=Effort(), samples=Effort())
    most_s = 60 * minutes + estimate(around, needs.method, past, matmul_tflops=rate).expected
    return whole.within(most_s), whole.expected <= most_s


def _judged(needs: Needs, room: int) -> dict[str, Any]:
    """Return memory and room of a rank, a mend if it does not fit, and the operations of all ranks."""
    memory = needs.case.plan()
    short = ["device"] * (memory.total > room) + needs.case.short_elsewhere()
    mend = mend_of(needs.case, room) if short else None
    return {
        "parameters": needs.parameters,
        "trainable_parameters": needs.trainable_parameters,
        "memory": memory.components(),
        "zero_stage": needs.zero_stage,
        "on_disk_bytes": needs.on_disk,
        "room_bytes": room,
        "fits": not short,
        "short_of": short,
        "mend": mend and {"edits": [edit._asdict() for edit in mend.edits], "total_bytes": mend.total},
        "flops": needs.flops,
        "effort": needs.efforts.as_json(),
    }
