"""Every route of the OpenAPI document x every kind of object x two projects x every scope: nothing leaks.

The matrix is made from the document, so a new route is in it by itself; one that names a new kind of object, or takes a
body, fails here until the seed or the table of bodies knows it.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from db.scopes import Scope
from tests.integration.api.live import Live
from tests.integration.api.tenant import (
    ID,
    Operation,
    as_theirs,
    clients,
    filled,
    filled_with,
    operations,
    seed,
    send,
    traces,
)

MARK = "mine-secret"
CONCERN_ALL = {"show_figures", "list_audit"}
"""What an operator's key is for; it tells of all projects."""

CHAT = {"model": "{models}", "messages": [{"role": "user", "content": "hello"}]}
SFT = {"kind": "sft", "model": "{models}", "training_file": "{file_id}"}
BODIES: dict[str, list[dict]] = {
    "create_job": [
        SFT | {"validation_file": "{file_id}"},
        {"kind": "sft", "continue_from": "{checkpoints}", "training_file": "{file_id}"},
        {"kind": "eval", "model": "{models}", "eval_file": "{file_id}", "compare_to": "{adapters}"},
        {"plan_id": "{plan_id}"},
    ],
    "create_fine_tuning_job": [{"model": "{models}", "training_file": "{file_id}", "validation_file": "{file_id}"}],
    "preview_rows": [{"spec": SFT}],
    "create_chat_completion": [CHAT, CHAT | {"model": "{adapters}"}, CHAT | {"model": "{checkpoints}"}],
    "create_completion": [{"model": "{models}", "prompt": "hello"}],
    "create_eval_run": [{"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "{eval_file_id}"}}}],
    "import_model": [{"name": "imported", "licence": "mit", "files": ["{file_id}"]}],
    "promote": [{"model": "{models}", "alias": "production"}],
    "complete_upload": [{"part_ids": ["{part_id}"]}],
}
"""Operations whose bodies name objects: bodies in which each name is in turn another project's."""
NAMELESS = {
    "create_eval", "update_eval", "run_grader", "validate_grader", "create_key", "set_key_budget", "create_upload",
    "sign_in", "create_webhook_endpoint", "update_webhook_endpoint", "rotate_webhook_secret", "test_webhook_endpoint",
    "create_checkpoint_permissions",
}  # fmt: skip
"""Operations whose bodies name none."""


@dataclass
class Matrix:
    """Two projects with everything in them; `mine` is the one that must not be seen."""

    live: Live
    mine: dict[str, str]
    theirs: dict[str, str]
    operations: list[Operation]
    askers: dict[Scope, httpx.Client]
    own: dict[Scope, httpx.Client]

    def ask(self, asking: httpx.Client, operation: Operation, path: str, **given: Any) -> httpx.Response:
        """The answer, whose status is one that the document tells of the operation."""
        answer = send(asking, operation.method, path, **given)
        assert answer.status_code in operation.statuses, (operation.name, path, given, answer.status_code)
        return answer

    def leak(self, answer: httpx.Response, scope: Scope, operation: Operation) -> str | None:
        """What of `mine` stands in an answer to the others, other than what they sent themselves."""
        if operation.name in CONCERN_ALL and scope is Scope.OPERATOR:
            return None
        if not answer.is_stream_consumed:
            return "a stream of events"
        sent = f"{answer.request.url} {answer.request.read()!r}"
        ids = set(ID.findall(answer.text)) & {*self.mine.values(), self.live.project_id}
        told = [object_id for object_id in ids if object_id not in sent]
        return MARK if MARK in answer.text and MARK not in sent else next(iter(told), None)


@pytest.fixture(scope="module")
def matrix(live: Live) -> Iterator[Matrix]:
    other = as_theirs(live)
    document = live.mine.get("/openapi.json", timeout=120).json()  # drawn up at the first look
    made = Matrix(
        live, seed(live, MARK), seed(other, "other"), list(operations(document)), clients(other), clients(live)
    )
    assert len(made.operations) > 80
    yield made
    for each in (*made.askers.values(), *made.own.values()):
        each.close()


def wrong(operation: Operation, scope: Scope, answer: httpx.Response, *, exact: bool) -> bool:
    """Whether the answer about another project's object is another than it should be."""
    if operation.scope is None:
        return answer.status_code >= 500
    if not scope.covers(operation.scope):
        told = answer.json()["error"] if answer.status_code == 403 else {}
        return (told.get("code"), told.get("param")) != ("missing_scope", operation.scope.value)
    return answer.status_code != 404 if exact else not 400 <= answer.status_code < 500


def test_no_route_shows_changes_or_confirms_what_is_another_projects(matrix: Matrix):
    ids = {*matrix.mine.values(), matrix.live.project_id}
    before = traces(matrix.live.database, ids)
    tried, leaks = 0, []
    for scope, operation in itertools.product(Scope, matrix.operations):
        if not operation.names_object:
            continue
        paths = {filled_with(operation, object_id) for object_id in matrix.mine.values()}
        right = filled(operation, matrix.mine)
        for path in sorted(paths | {right}):
            answer = matrix.ask(matrix.askers[scope], operation, path)
            tried += 1
            if matrix.leak(answer, scope, operation) or wrong(operation, scope, answer, exact=path == right):
                leaks.append((scope.value, operation.method, path, answer.status_code))
    assert leaks == []
    assert traces(matrix.live.database, ids) == before
    assert tried > 2000


def test_no_listing_shows_what_is_another_projects_whatever_it_is_asked_for(matrix: Matrix):
    leaks = []
    for operation, scope in itertools.product(matrix.operations, Scope):
        if operation.names_object or operation.method != "GET":
            continue
        asked = [{}] if scope is not Scope.ADMIN else [{}, *(
            {query: object_id} for query in operation.queries for object_id in matrix.mine.values()
        )]  # fmt: skip
        for params in asked:
            answer = matrix.ask(matrix.askers[scope], operation, operation.path, params=params)
            if matrix.leak(answer, scope, operation) or answer.status_code >= 500:
                leaks.append((scope.value, operation.path, params, answer.status_code))
    assert leaks == []


def said(body: dict, objects: dict[str, str]) -> dict:
    """The body with the objects that it names."""
    return json.loads(re.sub(r"{(\w+)}", lambda match: objects[match[1]], json.dumps(body)))


def test_no_body_reaches_what_is_another_projects(matrix: Matrix):
    """Each name in a body is another project's in turn, while all others are the caller's own."""
    ids = {*matrix.mine.values(), matrix.live.project_id}
    before, leaks = traces(matrix.live.database, ids), []
    named = {operation.name: operation for operation in matrix.operations}
    assert {operation.name for operation in matrix.operations if operation.json_body} == BODIES.keys() | NAMELESS
    for name, bodies in BODIES.items():
        operation = named[name]
        for body, scope in itertools.product(bodies, Scope):
            for field in set(re.findall(r"{(\w+)}", json.dumps(body))):
                objects = matrix.theirs | {field: matrix.mine[field]}
                path = filled(operation, matrix.theirs)
                answer = matrix.ask(matrix.askers[scope], operation, path, json=said(body, objects))
                if matrix.leak(answer, scope, operation) or wrong(operation, scope, answer, exact=False):
                    leaks.append((scope.value, name, field, answer.status_code, answer.text))
    assert leaks == []
    assert traces(matrix.live.database, ids) == before


def test_a_body_that_names_what_is_ones_own_is_not_refused_for_it(matrix: Matrix):
    """The bodies above fail for the one name that is not theirs, and for nothing else."""
    refused = []
    for operation in matrix.operations:
        for body in BODIES.get(operation.name, []):
            path = filled(operation, matrix.theirs)
            answer = matrix.ask(matrix.askers[Scope.WRITE], operation, path, json=said(body, matrix.theirs))
            if answer.status_code in {401, 403, 404} or "_not_found" in answer.text:
                refused.append((operation.name, body, answer.status_code, answer.text))
    assert not refused, "\n".join(map(str, refused))


@pytest.mark.parametrize("scope", Scope)
def test_a_key_does_in_its_own_project_what_its_scope_reaches_and_no_more(matrix: Matrix, scope: Scope):
    objects = seed(matrix.live, f"own-{scope.value}")
    mistaken = []
    deletions_last = sorted(matrix.operations, key=lambda each: (each.method == "DELETE", -len(each.path)))
    for operation in deletions_last:
        answer = matrix.ask(matrix.own[scope], operation, filled(operation, objects))
        if operation.scope is None:
            continue
        reaches = scope.covers(operation.scope)
        found = answer.status_code not in {401, 403, 404} if reaches else answer.status_code == 403
        nothing_there = (
            operation.name in {"show_output_item", "list_step_rows", "list_scored_rows"} and answer.status_code == 404
        )
        if not found and not nothing_there:
            mistaken.append((operation.method, operation.path, answer.status_code, answer.text))
    assert mistaken == []
