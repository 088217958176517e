"""The OpenAPI document: what the framework derives, with the job specs and without what cannot happen."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.jobs.routes import SPEC_SCHEMA

_DESCRIPTION = """Training as a service: data files and job specs in, versioned models and adapters out.

Every error is `{"error": {"message", "type", "param", "code", "errors": [...]}}`, and every answer has an
`x-request-id`. Lists are pages: `after=last_id` asks for the next one while `has_more` is true.
"""
# FastAPI's own error shape, which this service never sends.
_UNUSED = ("HTTPValidationError", "ValidationError")


def add_openapi(app: FastAPI) -> None:
    """Let the application publish this document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] - FastAPI's documented way


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title="Trainyard", version=app.version, description=_DESCRIPTION, routes=app.routes)
    schemas = document["components"]["schemas"]
    for name in _UNUSED:
        schemas.pop(name, None)
    schemas.update(SPEC_SCHEMA["$defs"])
    for operations in document["paths"].values():
        for operation in operations.values():
            _drop_unused(operation["responses"])
    return document


def _drop_unused(responses: dict[str, Any]) -> None:
    content = responses.get("422", {}).get("content", {}).get("application/json", {})
    if content.get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
        del responses["422"]
