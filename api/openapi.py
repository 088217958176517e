"""The OpenAPI document: what FastAPI derives, with the job specs and without responses that cannot occur."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import documented
from api.jobs.routes import SPEC_SCHEMA
from api.scopes import required_scope
from api.session.seal import COOKIE

_DESCRIPTION = """Training as a service: data files and job specs in, versioned models and adapters out.

Every error is `{"error": {"message", "type", "param", "code", "errors": [...]}}`, and every response has an
`x-request-id` header. Lists are pages: `after=last_id` requests the next one while `has_more` is true.
"""
# FastAPI's own error shape, which this service never sends.
_UNUSED = ("HTTPValidationError", "ValidationError")

# OpenAPI links from the id of a new object: operation -> (parameter, operations that take it).
_LINKS = {
    "upload_file": ("file_id", ("show_file", "download_file", "delete_file")),
    "create_job": (
        "job_id",
        (
            "show_job",
            "cancel_job",
            "pause_job",
            "resume_job",
            "retry_job",
            "list_job_events",
            "list_job_metrics",
            "list_job_checkpoints",
        ),
    ),
}

_OF_ANY_KEY = {
    str(status): {
        "description": documented(status)[status]["description"],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
    }
    for status in (403, 429)
}
_SESSION = {
    "type": "apiKey",
    "in": "cookie",
    "name": COOKIE,
    "description": "The cookie that POST /v1/session sets. Requests that change something need the X-CSRF-Token that GET /v1/session returns.",
}


def add_openapi(app: FastAPI) -> None:
    """Make the application publish this document."""

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
    _require_tags(document, schemas)
    document["components"]["securitySchemes"]["Session"] = _SESSION
    for operations in document["paths"].values():
        for method, operation in operations.items():
            _drop_unused(operation["responses"])
            _add_links(operation)
            _add_scope(method, operation)
            for parameter in operation.get("parameters", ()):
                _drop_null(parameter)
                _forbid_nul(parameter["schema"])
    return document


def _drop_unused(responses: dict[str, Any]) -> None:
    content = responses.get("422", {}).get("content", {}).get("application/json", {})
    if content.get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
        del responses["422"]


def _add_scope(method: str, operation: dict[str, Any]) -> None:
    """Document the scope that an operation needs, and the errors of a key without it or with too many requests."""
    scope = required_scope(operation, method)
    if scope is None:
        return
    operation["x-required-scope"] = scope.value
    operation["security"] = [{"ApiKey": []}, {"Session": []}]
    operation["responses"] = dict(sorted((_OF_ANY_KEY | operation["responses"]).items()))


def _add_links(operation: dict[str, Any]) -> None:
    if operation["operationId"] in _LINKS:
        parameter, targets = _LINKS[operation["operationId"]]
        operation["responses"]["201"]["links"] = {
            target: {"operationId": target, "parameters": {parameter: "$response.body#/id"}} for target in targets
        }


def _drop_null(parameter: dict[str, Any]) -> None:
    """Drop null from a parameter's type: a query or a header cannot express it."""
    schema = parameter["schema"]
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        del schema["anyOf"]
        schema.update(choices[0])


def _forbid_nul(schema: dict[str, Any]) -> None:
    """Document that no text in a URL may contain a NUL (api.middleware)."""
    texts = [schema, schema.get("items", {}), *schema.get("anyOf", ())]
    for text in texts:
        if text.get("type") == "string" and not text.keys() & {"pattern", "enum", "const", "format"}:
            text["pattern"] = r"^[^\x00]*$"


def _require_tags(part: Any, schemas: dict[str, Any]) -> None:
    """Make the discriminator of each union required: it has a default in every member, yet a body must name it."""
    if isinstance(part, list):
        for item in part:
            _require_tags(item, schemas)
    if not isinstance(part, dict):
        return
    union = part.get("discriminator")
    if isinstance(union, dict) and "mapping" in union:
        for reference in union["mapping"].values():
            member = schemas[reference.rpartition("/")[2]]
            member["required"] = sorted({*member.get("required", ()), union["propertyName"]})
    for item in part.values():
        _require_tags(item, schemas)
