"""Traces: from the request that made a job to what the job made, as OpenTelemetry spans.

They are off unless the operator names where they go: TRAINYARD_OTLP_ENDPOINT, an OTLP/HTTP collector. A span's
context lies with the job as a W3C `traceparent`, so the worker that takes it, and each that takes it again, goes on
with the trace; its run directory tells it in job.json.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from db import log_context

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_provider: "TracerProvider | None" = None


class TraceSettings(BaseSettings):
    """Where the operator wants traces."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", env_ignore_empty=True)

    otlp_endpoint: str | None = Field(
        default=None, description="An OTLP/HTTP collector, which every job's trace goes to: http://collector:4318."
    )


def begin(service: str) -> None:
    """Have this process send its spans; to be called after a fork, for a thread sends them."""
    global _provider  # noqa: PLW0603 - one process, one stream of spans
    endpoint = TraceSettings().otlp_endpoint
    if endpoint is None:
        return
    # Loaded only here: most services have no collector, and start quicker without.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _provider = TracerProvider(resource=Resource.create({"service.name": f"trainyard-{service}"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    _provider.add_span_processor(BatchSpanProcessor(exporter))


def end() -> None:
    """Send what is not sent yet."""
    global _provider  # noqa: PLW0603 - as above
    if _provider is not None:
        _provider.shutdown()
    _provider = None


@contextmanager
def span(name: str, parent: str | None = None, **attributes: str | int) -> Iterator[None]:
    """A span around what is done inside, below the one around it or below the `traceparent` of another process.

    Inside, the work is about it: `db.log_context` has its `traceparent`, and so have the log lines.
    """
    if _provider is None:
        yield
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried = TraceContextTextMapPropagator()
    above = carried.extract({"traceparent": parent}) if parent else None
    tracer = _provider.get_tracer("trainyard")
    with tracer.start_as_current_span(name, context=above, attributes=attributes):
        told: dict[str, str] = {}
        carried.inject(told)
        with log_context.work(**told):
            yield
