"""Traces: one from the request that made a job to what the job made, told to a collector over OTLP."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import jobs, log_context, traces
from tests.collector import Collector, collecting, context
from tests.integration.workers.workplace import Workplace, tiny_pretrain, wait_until
from tests.servers import Valkey


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """The one that this process, and those that it starts, send their spans to."""
    with collecting() as server:
        monkeypatch.setenv("TRAINYARD_OTLP_ENDPOINT", server.url)
        traces.begin("api")
        yield server
        traces.end()


def test_without_a_collector_there_is_no_trace() -> None:
    traces.begin("api")
    with traces.span("job.create"):
        assert "traceparent" not in log_context.now()


def test_a_span_names_its_trace_to_what_is_done_inside_and_is_sent(collector: Collector) -> None:
    with traces.span("job.create", kind="sft"):
        told = log_context.now()["traceparent"]
    assert "traceparent" not in log_context.now()
    traces.end()
    ((service, span),) = collector.named("job.create")
    assert service == "trainyard-api"
    assert context(told) == (span.trace_id, span.span_id)


def test_a_job_is_one_trace_from_its_request_to_its_result(
    collector: Collector, tmp_path: Path, sqlite_template: Path
) -> None:
    (tmp_path / "trainyard.db").write_bytes(sqlite_template.read_bytes())
    place = Workplace(tmp_path, f"sqlite:///{tmp_path / 'trainyard.db'}", warm_engines=0)
    broker = Valkey()
    spec = tiny_pretrain(place.upload())
    with traces.span("job.create"):
        job_id = place.submit(spec, traceparent=log_context.now()["traceparent"])
    traces.end()
    with place.process("workers", broker.url), place.process("workers.recover", broker.url):
        place.wait(job_id, "succeeded")
        told = json.loads((place.settings.run_dir(job_id, 1) / "job.json").read_text())["traceparent"]
    wait_until(lambda: bool(collector.named("job.attempt")), "the worker's spans")
    ((_, created),) = collector.named("job.create")
    ((service, attempt),) = collector.named("job.attempt")
    assert (service, attempt.trace_id, attempt.parent_span_id) == (
        "trainyard-worker",
        created.trace_id,
        created.span_id,
    )
    for name in ("job.stage", "job.engine", "job.settle"):
        ((_, span),) = collector.named(name)
        assert (span.trace_id, span.parent_span_id) == (created.trace_id, attempt.span_id)
    ((_, engine),) = collector.named("job.engine")
    assert {span.parent_span_id for _, span in collector.named("job.checkpoint")} == {engine.span_id}
    assert context(told) == (attempt.trace_id, attempt.span_id)
    with place.database.read() as s:
        assert jobs.find(s, job_id) is not None
    broker.close()
    place.close()
