"""A project with one object of every kind in it, a key of every scope, and ways to tell what was touched."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
from sqlalchemy import select

from db import artifacts, keys, permissions, plans, registry
from db.models import Row
from db.scopes import Scope
from db.session import Database
from tests.integration.api.live import (
    CHAT,
    FORECAST,
    SECRET,
    Live,
    client,
    pretrain_spec,
    published,
    started,
    stored,
    text_file,
    upload,
)

EVAL = {
    "data_source_config": {"type": "custom", "item_schema": {}},
    "testing_criteria": [{"type": "string_check", "name": "a", "input": "x", "reference": "x", "operation": "eq"}],
}
RUN = {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}}}
WEBHOOK = {"url": "https://example.com/", "event_types": ["eval.run.failed"]}
UPLOAD = {"bytes": len(CHAT), "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
ID = re.compile(r"[a-z]{3,10}-[0-9a-hjkmnp-tv-z]{26}")
_UNTOUCHED_BY_ACTS = {"last_used_at"}


def seed(live: Live, mark: str) -> dict[str, str]:
    """The ids of one object of each kind, by the parameter of the path that names it. Their names carry the mark."""
    rows = json.dumps({"messages": [{"role": "user", "content": mark}, {"role": "assistant", "content": "4"}]})
    model = published(live, f"{mark}-model", {"a": mark.encode()})
    planned = pretrain_spec(text_file(live.mine), suffix=mark)
    job_id, fence = started(live, suffix=mark, metadata={"secret": mark})
    with live.database.write() as session:
        checkpoint = artifacts.publish_checkpoint(
            session, job_id, fence,
            step=1, layout="model", files=[artifacts.FileEntry("a", *stored(live, mark.encode()))],
            metrics={}, lineage={}, keep=3,
        )  # fmt: skip
        registry.turn(session, model, "production", key_id="key-1", figures={})
        plan = plans.add(session, live.project_id, kind="pretrain", spec=planned, forecast=FORECAST)
        key, _ = keys.create(session, live.project_id, mark, SECRET, scope=Scope.READ)
        assert checkpoint is not None
        (permission,) = permissions.grant(session, checkpoint.id, [live.project_id])
    upload_id = live.mine.post("/v1/uploads", json=UPLOAD | {"filename": f"{mark}.jsonl"}).json()["id"]
    part = live.mine.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("upload", CHAT)}).json()
    eval_id = live.mine.post("/v1/evals", json=EVAL | {"name": mark}).json()["id"]
    return {
        "file_id": upload(live.mine, rows.encode() + b"\n", name=f"{mark}.jsonl").json()["id"],
        "eval_file_id": upload(live.mine, b'{"item": {}}\n', "evals", f"{mark}-eval.jsonl").json()["id"],
        "upload_id": upload_id,
        "part_id": part["id"],
        "job_id": job_id,
        "eval_id": eval_id,
        "run_id": live.mine.post(f"/v1/evals/{eval_id}/runs", json=RUN | {"name": mark}).json()["id"],
        "plan_id": plan.id,
        "key_id": key.id,
        "alias": f"{mark}-model@production",
        "webhook_id": live.mine.post("/v1/webhook_endpoints", json=WEBHOOK | {"name": mark}).json()["id"],
        "models": model.id,
        "adapters": published(live, f"{mark}-adapter", {"a": mark.encode()}, kind="adapter").id,
        "checkpoints": checkpoint.id,
        "checkpoint_id": checkpoint.id,
        "permission_id": permission.id,
    }


def as_theirs(live: Live) -> Live:
    """The same service, seen by the other project."""
    project_id = live.theirs.get("/v1/me").json()["project"]["id"]
    return dataclasses.replace(live, mine=live.theirs, theirs=live.mine, project_id=project_id)


def clients(live: Live) -> dict[Scope, httpx.Client]:
    """A client for each scope, of the project that is `mine`."""
    made = {}
    for scope in Scope:
        with live.database.write() as session:
            _, token = keys.create(session, live.project_id, scope.value, SECRET, scope=scope)
        made[scope] = client(live.url, token)
    return made


def traces(database: Database, ids: set[str]) -> list[str]:
    """Every row of every table that names one of the ids, as text: what was there and what refers to it."""
    found = []
    with database.read() as session:
        for table in Row.metadata.sorted_tables:
            for row in session.execute(select(table)).mappings():
                told = {name: value for name, value in row.items() if name not in _UNTOUCHED_BY_ACTS}
                text = f"{table.name} {json.dumps(told, default=str)}"
                if ids.intersection(ID.findall(text)):
                    found.append(text)
    return sorted(found)


@dataclasses.dataclass(frozen=True)
class Operation:
    """A route of the document, and what it takes."""

    name: str
    method: str
    path: str
    scope: Scope | None
    names_object: bool
    queries: tuple[str, ...]
    json_body: bool
    statuses: frozenset[int]

    @property
    def noun(self) -> str:
        return self.path.split("/")[2] if self.path.startswith("/v1/") else ""


_NO_OBJECT = {"path": "a", "step": "1", "metric": "loss", "item_id": "outputitem-0"}
"""Parameters that name a part of an object that another parameter names."""


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            scope = told.get("x-required-scope")
            queries = [each["name"] for each in told.get("parameters", ()) if each["in"] == "query"]
            yield Operation(
                told["operationId"],
                method.upper(),
                path,
                scope and Scope(scope),
                "{" in path,
                tuple(queries),
                "application/json" in told.get("requestBody", {}).get("content", {}),
                frozenset(map(int, told["responses"])),
            )


def filled(operation: Operation, objects: dict[str, str]) -> str:
    """The path with the objects that it is about. A parameter that nobody seeded an object for is a KeyError."""
    values = objects | _NO_OBJECT | {"reference": objects.get(operation.noun, "")}
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], operation.path)


def filled_with(operation: Operation, object_id: str) -> str:
    """The path with one id in the place of every object."""
    return re.sub(r"{(\w+)}", lambda match: _NO_OBJECT.get(match[1], object_id), operation.path)


def send(asking: httpx.Client, method: str, path: str, **given: Any) -> httpx.Response:
    """The answer, read to its end unless it is a stream of events, which has none."""
    with asking.stream(method, path, **given) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.read()
    return answer
