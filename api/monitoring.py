"""/metrics: metrics of the whole service in the Prometheus text format."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from api.deps import ServiceDep
from api.errors import documented
from db import clock, service_stats, workers
from db.session import Session

router = APIRouter(tags=["monitoring"])

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Metrics in the Prometheus text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@router.get("/metrics", response_class=Response, responses=_TEXT | documented(401))
def show_figures(service: ServiceDep) -> Response:
    """Show the metrics of the service: jobs, waiting times, failures, workers, speeds. Needs an operator's key."""
    registry = CollectorRegistry()
    with service.database.read() as session:
        registry.register(Figures(session))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Figures(Collector):
    """Collects metrics from the database at each request, so that all API processes report the same."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def collect(self) -> Iterator[Metric]:
        yield from _of_jobs(self._session)
        yield from _of_attempts(self._session)
        yield from _of_workers(self._session)
        yield from _of_runs(self._session)


def _of_jobs(session: Session) -> Iterator[Metric]:
    states = service_stats.jobs_by_state(session)
    jobs = GaugeMetricFamily("trainyard_jobs", "Jobs by state.", labels=["state"])
    for state, count in states.items():
        jobs.add_metric([state], count)
    yield jobs
    yield GaugeMetricFamily("trainyard_queue_depth", "Jobs that wait for a worker.", value=states["queued"])
    oldest = service_stats.oldest_queued_at(session)
    age_s = 0.0 if oldest is None else max(0.0, clock.now(session) - oldest)
    yield GaugeMetricFamily(
        "trainyard_queue_oldest_seconds", "How long the job has waited that waits the longest.", value=age_s
    )


def _of_attempts(session: Session) -> Iterator[Metric]:
    waits = service_stats.waits(session)
    yield SummaryMetricFamily(
        "trainyard_queue_wait_seconds",
        "From a job's making to its first attempt.",
        count_value=waits.jobs,
        sum_value=waits.seconds,
    )
    failed = CounterMetricFamily(
        "trainyard_attempt_failures", "Attempts that went wrong, by class of failure.", labels=["class"]
    )
    for name, count in service_stats.failures(session).items():
        failed.add_metric([name], count)
    yield failed
    expiries = service_stats.lease_expiries(session)
    yield CounterMetricFamily("trainyard_lease_expiries", "Attempts that were lost with their worker.", value=expiries)


def _of_workers(session: Session) -> Iterator[Metric]:
    fleet = workers.look(session)
    counted = Counter(fleet.state_of(worker) for worker in fleet.workers)
    family = GaugeMetricFamily("trainyard_workers", "Workers by state.", labels=["state"])
    for state in ("idle", "busy", "lost", "stopped"):
        family.add_metric([state], counted[state])
    yield family


def _of_runs(session: Session) -> Iterator[Metric]:
    labels = ["job_id", "kind"]
    tokens = GaugeMetricFamily("trainyard_job_tokens_per_second", "Tokens a running job takes in.", labels=labels)
    mfu = GaugeMetricFamily("trainyard_job_mfu_ratio", "Share of the device's rate that is used.", labels=labels)
    for speed in service_stats.speeds(session):
        if speed.tokens_per_s is not None:
            tokens.add_metric([speed.job_id, speed.kind], speed.tokens_per_s)
        if speed.mfu is not None:
            mfu.add_metric([speed.job_id, speed.kind], speed.mfu)
    yield tokens
    yield mfu
