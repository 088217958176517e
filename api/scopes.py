"""What each route takes: one table, and what is not in it takes no less than its method says.

Every router but the open ones is included with the guard of api.auth, which looks up here what the route takes. A new
route is therefore closed to who has no key, and to a key that only reads if it changes something.
"""

from typing import Any

from db.scopes import Scope

READING = frozenset({"GET", "HEAD", "OPTIONS"})

OPEN = frozenset({"alive", "ready", "openapi", "show_docs", "sign_in", "show_session"})
"""Routes that take no key, by name."""

_OTHERS = {
    "preview_rows": Scope.READ,  # a POST for its body: it changes nothing
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
"""Routes that take another scope than their method says, by name."""


def needed(name: str, method: str) -> Scope:
    """The scope that a route takes."""
    return _OTHERS.get(name) or (Scope.READ if method in READING else Scope.WRITE)


def told(operation: dict[str, Any], method: str) -> Scope | None:
    """The scope that an operation of the OpenAPI document takes; None for an open one."""
    name = operation["operationId"]
    return None if name in OPEN else needed(name, method.upper())
