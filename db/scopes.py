"""Scopes of API keys. Each scope includes those before it."""

from enum import StrEnum


class Scope(StrEnum):
    """What the holder of a key may do."""

    READ = "read"
    """Read the objects of its project."""
    WRITE = "write"
    """Create, change and delete the objects of its project, and send prompts to its models."""
    ADMIN = "admin"
    """Create and revoke the keys of its project."""
    OPERATOR = "operator"
    """Read the figures of all projects, for whoever runs the service, but not the objects of other projects."""

    def covers(self, needed: "Scope") -> bool:
        """Return whether this scope includes the needed one."""
        return _RANK[self] >= _RANK[needed]


_RANK = {scope: rank for rank, scope in enumerate(Scope)}
