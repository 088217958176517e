"""A request that makes a job begins the job's trace."""

import pytest

from db import jobs, traces
from tests.collector import collecting, context
from tests.integration.api.live import Live, submitted


def traceparent(live: Live, job_id: str) -> str | None:
    with live.database.read() as session:
        job = jobs.get(session, live.project_id, job_id)
    assert job is not None
    return job.traceparent


def test_a_job_remembers_the_trace_of_its_request(live: Live, monkeypatch: pytest.MonkeyPatch):
    with collecting() as collector:
        monkeypatch.setenv("TRAINYARD_OTLP_ENDPOINT", collector.url)
        traces.begin("api")
        remembered = traceparent(live, submitted(live))
        traces.end()
    ((service, span),) = collector.named("job.create")
    assert service == "trainyard-api"
    assert remembered is not None
    assert context(remembered) == (span.trace_id, span.span_id)
    assert {pair.key: pair.value.string_value for pair in span.attributes} == {
        "project_id": live.project_id,
        "kind": "pretrain",
    }


def test_where_traces_are_off_a_job_has_none(live: Live):
    assert traceparent(live, submitted(live)) is None
