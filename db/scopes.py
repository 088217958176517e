"""What a key may do. Each scope holds those before it."""

from enum import StrEnum


class Scope(StrEnum):
    """How far a key reaches."""

    READ = "read"
    """Sees what its project has, and changes nothing."""
    WRITE = "write"
    """Makes, changes and deletes what its project has, and has models answer."""
    ADMIN = "admin"
    """Makes and revokes the keys of its project."""
    OPERATOR = "operator"
    """Sees what concerns all projects, for who runs the service. The objects of other projects stay theirs."""

    def covers(self, needed: "Scope") -> bool:
        """Whether a key of this scope may do what takes the other."""
        return _RANK[self] >= _RANK[needed]


_RANK = {scope: rank for rank, scope in enumerate(Scope)}
