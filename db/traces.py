"""OpenTelemetry traces, from the request that created a job to the artifacts that the job published.

They are off unless TRAINYARD_OTLP_ENDPOINT names an OTLP/HTTP collector. The span context is stored with the job as a
W3C `traceparent`, so that every worker that claims the job continues the trace; the engine finds it in `job.json`.
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
    """Settings for where traces are sent."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", env_ignore_empty=True)

    otlp_endpoint: str | None = Field(
        default=None,
        description="URL of the OTLP/HTTP collector for the traces of jobs, such as http://collector:4318.",
    )


def begin(service: str) -> None:
    """Start sending the spans of this process. Call it after a fork, which the sending thread would not survive."""
    global _provider  # noqa: PLW0603 - one process, one stream of spans
    endpoint = TraceSettings().otlp_endpoint
    if endpoint is None:
        return
    # Imported only here: most services have no collector, and start faster without it.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _provider = TracerProvider(resource=Resource.create({"service.name": f"trainyard-{service}"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    _provider.add_span_processor(BatchSpanProcessor(exporter))


def end() -> None:
    """Send the spans that are still buffered, and stop tracing."""
    global _provider  # noqa: PLW0603 - one process, one stream of spans
    if _provider is not None:
        _provider.shutdown()
    _provider = None


@contextmanager
def span(name: str, parent: str | None = None, **attributes: str | int) -> Iterator[None]:
    """Open a span around the body, as a child of the current span or of the `traceparent` of another process.

    Within the body `db.log_context`, and so every log line, has its `traceparent`.
    """
    if _provider is None:
        yield
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    context = propagator.extract({"traceparent": parent}) if parent else None
    tracer = _provider.get_tracer("trainyard")
    with tracer.start_as_current_span(name, context=context, attributes=attributes):
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        with log_context.work(**carrier):
            yield
