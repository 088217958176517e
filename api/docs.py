"""/docs: the OpenAPI document as one page, which needs no script and nothing from the network."""

import base64
import hashlib
from html import escape
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

router = APIRouter(include_in_schema=False)

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{overflow:auto;background:#f4f4f2;padding:.75rem;border-radius:.4rem}
h2{margin-top:2.5rem;border-bottom:1px solid #ddd}h3{margin:1.6rem 0 .2rem}b{display:inline-block;min-width:4.5rem}
table{border-collapse:collapse}td{padding:.15rem .8rem .15rem 0;vertical-align:top}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{color:#e8e8e6;background:#16181a}pre{background:#22262a}h2{border-color:#444}a{color:#8ab4f8}}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"


@router.get("/docs")
async def show_docs(request: Request) -> Response:
    """Show the documentation of the API."""
    document = request.app.openapi()
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in tags.items())
    schemas = "".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Trainyard API</title><style>{_STYLE}</style><h1>Trainyard API {escape(document['info']['version'])}</h1>"
        f"<p>{escape(document['info']['description'])}</p><p><a href=/openapi.json>openapi.json</a></p>"
        f"{sections}<h2>Schemas</h2>{schemas}</html>"
    )
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = _row("scope", escape(operation.get("x-required-scope", "none: no key is needed")), "")
    rows += "".join(_parameter(parameter) for parameter in operation.get("parameters", ()))
    for content_type, content in operation.get("requestBody", {}).get("content", {}).items():
        rows += _row("body", f"{escape(content_type)} {_reference(content['schema'])}", "")
    for status, response in operation["responses"].items():
        schemas = " ".join(_reference(content.get("schema", {})) for content in response.get("content", {}).values())
        rows += _row(status, schemas, response["description"])
    title = f"<h3><b>{method.upper()}</b> <code>{escape(path)}</code></h3>"
    return f"{title}<p>{escape(operation.get('description', ''))}</p><table>{rows}</table>"


def _parameter(parameter: dict[str, Any]) -> str:
    shown = orjson.dumps({k: v for k, v in parameter["schema"].items() if k not in {"title", "description"}}).decode()
    return _row(f"{parameter['in']} {parameter['name']}", escape(shown), parameter.get("description", ""))


def _row(name: str, what: str, description: str) -> str:
    return f"<tr><td>{escape(name)}</td><td><code>{what}</code></td><td>{escape(description)}</td></tr>"


def _reference(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        return f"<a href='#{escape(name)}'>{escape(name)}</a>"
    return "or ".join(_reference(choice) for choice in schema.get("oneOf", ()))


def _schema(name: str, schema: dict[str, Any]) -> str:
    shown = escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
    return f"<details id='{escape(name)}'><summary>{escape(name)}</summary><pre>{shown}</pre></details>"
