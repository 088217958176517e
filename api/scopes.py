"""The scope that each route requires: by its method, unless the table here says otherwise.

All routers but the open ones are included with the guard of api.auth, which looks the scope up here. A new route is
therefore closed to requests without a key and, if it may change something, to keys that may only read.
"""

from typing import Any

from db.scopes import Scope

READING = frozenset({"GET", "HEAD", "OPTIONS"})

OPEN = frozenset({"alive", "ready", "openapi", "show_docs", "sign_in", "show_session"})
"""The names of the routes that need no key."""

_OTHERS = {
    "preview_rows": Scope.READ,  # a POST because of its body; it changes nothing
    "validate_grader": Scope.READ,  # likewise
    "sign_out": Scope.READ,
    "list_keys": Scope.ADMIN,
    "show_key": Scope.ADMIN,
    "create_key": Scope.ADMIN,
    "revoke_key": Scope.ADMIN,
    "set_key_budget": Scope.ADMIN,
    "create_checkpoint_permissions": Scope.ADMIN,
    "delete_checkpoint_permission": Scope.ADMIN,
    "list_audit": Scope.ADMIN,
    "show_figures": Scope.OPERATOR,
}
"""The routes that require another scope than that of their method, by name."""


def needed(name: str, method: str) -> Scope:
    """Return the scope that a route requires."""
    return _OTHERS.get(name) or (Scope.READ if method in READING else Scope.WRITE)


def required_scope(operation: dict[str, Any], method: str) -> Scope | None:
    """Return the scope that an operation of the OpenAPI document requires; None for an open one."""
    name = operation["operationId"]
    return None if name in OPEN else needed(name, method.upper())
