"""What each route takes: every one has a scope or is meant to be open, and nothing is so by oversight."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr

from api import scopes
from api.app import create_app
from api.auth import GUARD
from api.settings import ApiSettings
from db.scopes import Scope
from db.session import Database
from db.settings import StorageSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    home: Path = tmp_path_factory.mktemp("home")
    settings = ApiSettings(secret=SecretStr("of no service"))
    return create_app(
        settings, StorageSettings(home=home), Database(f"sqlite:///{home}/none.db"), "redis://127.0.0.1:1"
    )


def guarded(app: FastAPI) -> Iterator[tuple[str, bool]]:
    """Each route's name and whether it asks the guard before anything else, those that no document tells of too."""
    for route in iter_route_contexts(app.router.routes):
        assert route.name is not None, route
        yield route.name, GUARD in getattr(route, "dependencies", ())


def test_every_route_has_the_guard_or_is_one_of_the_open_ones(app: FastAPI):
    routes = dict(guarded(app))
    assert len(routes) > 80
    assert {name for name, asks in routes.items() if not asks} == scopes.OPEN


def test_every_operation_says_which_scope_it_takes(app: FastAPI):
    told = {
        operation["operationId"]: operation.get("x-required-scope")
        for operations in app.openapi()["paths"].values()
        for operation in operations.values()
    }
    assert {name for name, scope in told.items() if scope is None} <= scopes.OPEN
    assert {
        "list_jobs": "read",
        "validate_grader": "read",
        "create_job": "write",
        "create_key": "admin",
        "show_figures": "operator",
    }.items() <= (told.items())


def test_no_scope_is_given_to_a_route_that_is_not_there(app: FastAPI):
    assert set(scopes._OTHERS) <= dict(guarded(app)).keys()


@pytest.mark.parametrize(("method", "scope"), [("GET", Scope.READ), ("POST", Scope.WRITE), ("DELETE", Scope.WRITE)])
def test_a_route_that_is_in_no_table_takes_what_its_method_says(method: str, scope: Scope):
    assert scopes.needed("a_new_route", method) is scope


def test_a_router_that_is_included_without_the_guard_is_found_out(app: FastAPI):
    careless = APIRouter()
    careless.add_api_route("/v1/careless", lambda: None, name="careless")
    other = FastAPI()
    other.include_router(careless)
    assert dict(guarded(other))["careless"] is False


def test_each_scope_holds_those_before_it():
    assert [[scope.covers(needed) for needed in Scope] for scope in Scope] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]
