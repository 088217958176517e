"""Forecasts of plans, compared with what their jobs measured."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from api.plans.schemas import Accuracy, Figures, HitRate, JobPlan
from db.models import Job, Plan

_WITHIN = {"steps": 0.0, "tokens": 0.0, "memory": 0.10, "time": 0.20}
_FIGURE = {"steps": "steps", "tokens": "tokens", "memory": "peak_memory_bytes", "time": "seconds"}


def job_plan(job: Job, plan: Plan | None) -> JobPlan | None:
    """Return the plan of a job with the job's own measurements; None for a job without a plan."""
    return (
        None
        if plan is None
        else JobPlan(id=plan.id, exact=plan.forecast["exact"], predicted=_predicted(plan.forecast), actual=_actual(job))
    )


def accuracy(followed: list[tuple[Job, Plan]]) -> Accuracy:
    """Return the accuracy of the plans of jobs that succeeded."""
    ended = [(job, plan.forecast, actual) for job, plan in followed if (actual := _actual(job)) is not None]
    pairs = {
        name: [(_predicted(forecast), actual) for job, forecast, actual in ended if _holds(name, job, forecast)]
        for name in _WITHIN
    }
    return Accuracy.model_validate({name: _hits(pairs[name], name) for name in _WITHIN})


def _holds(name: str, job: Job, forecast: dict[str, Any]) -> bool:
    """Return whether the plan commits to that figure.

    It does not commit to steps and tokens that it could only estimate, nor to the time of a run that may stop early.
    """
    if name == "memory":
        return True
    if _may_stop_early(job, forecast):
        return False
    if forecast["exact"] or name == "time":
        return True
    return name == "steps" and job.spec.get("resources", {}).get("max_minutes") is None


def _may_stop_early(job: Job, forecast: dict[str, Any]) -> bool:
    patience = job.spec.get("checkpoints", {}).get("early_stopping_patience")
    return patience is not None and forecast["validation_rows"] > 0


def past_runs(ended: Sequence[Job], most: int) -> list[dict[str, Any]]:
    """Return ended jobs for forecasts to learn from: the first `most` of each device, number of ranks and precision.

    A forecast uses only those that ran as its own job will, so that jobs of other kinds must not crowd them out.
    """
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for job in ended:
        if run := _past_run(job):
            alike.setdefault((run["device"], run["ranks"], run["precision"]), []).append(run)
    return [run for runs in alike.values() for run in runs[:most]]


def _past_run(job: Job) -> dict[str, Any] | None:
    usage = (job.result or {}).get("usage")
    if (
        usage is None
        or usage.get("part_seconds") is None
        or usage["effort"] is None
        or job.started_at is None
        or job.finished_at is None
    ):
        return None
    names = ("method", "device", "precision", "effort", "part_seconds", "runtime_bytes")
    figures = {name: usage[name] for name in names} | {"ranks": usage.get("ranks") or _asked_ranks(job)}
    return figures | {"seconds": job.finished_at - job.started_at}


def _asked_ranks(job: Job) -> int:
    resources = job.spec.get("resources", {})
    return resources.get("num_nodes", 1) * resources.get("nproc_per_node", 1)


def _predicted(forecast: dict[str, Any]) -> Figures:
    memory, flops, eta = forecast["memory"], forecast["flops"], forecast["eta"]
    return Figures(
        steps=forecast["steps"],
        tokens=forecast["tokens"],
        trained_tokens=forecast["trained_tokens"],
        flops=flops and flops["training"],
        peak_memory_bytes=memory and memory["total"],
        seconds=eta and eta["expected"],
    )


def _actual(job: Job) -> Figures | None:
    usage = (job.result or {}).get("usage")
    if usage is None or job.fence != 1 or job.started_at is None or job.finished_at is None:
        return None
    return Figures(
        steps=usage["steps"],
        tokens=usage["tokens"],
        trained_tokens=usage["trained_tokens"],
        flops=usage["flops"],
        peak_memory_bytes=usage["peak_memory_bytes"],
        seconds=job.finished_at - job.started_at,
    )


def _hits(pairs: list[tuple[Figures, Figures]], name: str) -> HitRate:
    """Return how often and how far the forecasts of a figure were off, relative to what was measured."""
    figure = _FIGURE[name]
    both = [(getattr(predicted, figure), getattr(actual, figure)) for predicted, actual in pairs]
    errors = [abs(predicted - actual) / actual for predicted, actual in both if predicted is not None and actual]
    if not errors:
        return HitRate(jobs=0, share=None, median=None, worst=None)
    held = sum(error <= _WITHIN[name] for error in errors)
    return HitRate(jobs=len(errors), share=held / len(errors), median=median(errors), worst=max(errors))
