"""The owner of a blob store: `python -m db.installation show | take-over`.

A service removes blobs that none of its rows refers to, so two services must not share a store. The store records the
installation that it belongs to, and no other one removes blobs from it.
"""

import sys
import time
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock, health
from db.blobs import BlobStore
from db.errors import Unavailable
from db.ids import new_id
from db.models import Installation
from db.session import Database
from db.settings import StorageSettings

_INSERT = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
MEND = "`trainyard doctor --take-over`, once the other one is gone for good, or another TRAINYARD_BLOBS"


class Standing(NamedTuple):
    """This installation, and the one that the blob store belongs to."""

    own_id: str
    owner_id: str | None

    @property
    def ours(self) -> bool:
        return self.own_id == self.owner_id

    def __str__(self) -> str:
        if self.ours:
            return f"the blob store belongs to this installation, {self.own_id}"
        if self.owner_id is None:
            return f"the blob store belongs to no installation yet; the workers of {self.own_id} will claim it"
        return (
            f"the blob store belongs to {self.owner_id} and this is {self.own_id}, as after a restore or where two "
            f"services share a store: this service removes nothing from it, and the other one may remove its files"
        )


def known_id(s: Session) -> str | None:
    """Return the installation's id, if it has been created."""
    return s.scalars(select(Installation.id)).one_or_none()


def own_id(s: Session) -> str:
    """Return the installation's id, which is created by the first call."""
    if (known := known_id(s)) is not None:
        return known
    values = {"number": 1, "id": new_id("inst"), "created_at": time.time()}
    s.execute(_INSERT[clock.dialect(s)](Installation).values(values).on_conflict_do_nothing())
    return s.scalars(select(Installation.id)).one()


def forget(s: Session) -> str:
    """Delete the installation's id, so that another will be created, and return the deleted one."""
    name = own_id(s)
    s.execute(delete(Installation))
    return name


def look(database: Database, blobs: BlobStore) -> Standing:
    """Return the owner of the blobs, without claiming them if they have none."""
    return Standing(_named(database), blobs.owner())


def claim(database: Database, blobs: BlobStore) -> Standing:
    """Claim the blobs for this installation if they have no owner yet."""
    own = _named(database)
    return Standing(own, blobs.claim(own))


def take_over(database: Database, blobs: BlobStore) -> Standing:
    """Make this installation the owner of the blobs, whichever it was before."""
    own = _named(database)
    blobs.take_over(own)
    return Standing(own, own)


def _named(database: Database) -> str:
    with database.write() as s:
        return own_id(s)


def main(arguments: list[str]) -> int:
    """Print the owner of the blobs. Return 1 if it is another installation, or cannot be determined.

    `show` does not claim blobs without an owner: the store may be a folder whose disk is not mounted.
    """
    match arguments:
        case ["show"]:
            act = look
        case ["take-over"]:
            act = take_over
        case _:
            sys.exit("usage: python -m db.installation show | take-over")
    settings = StorageSettings()
    database = Database(settings.database_url)
    try:
        if not health.begun(settings.database_url):
            sys.stdout.write("nothing is stored yet\n")
            return 0
        standing = act(database, settings.open_blobs(low_space_bytes=0))
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        database.close()
    amiss = not standing.ours and standing.owner_id is not None
    sys.stdout.write(f"{standing}. Mend: {MEND}.\n" if amiss else f"{standing}\n")
    return int(amiss)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
