"""Whose the blobs are: `python -m db.installation show | take-over`.

What no row names is removed from a blob store, so one store must have one service: beside the blobs is kept which
installation they belong to, and no other removes any.
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
    """This installation, and whose the blobs are."""

    own_id: str
    owner_id: str | None

    @property
    def ours(self) -> bool:
        return self.own_id == self.owner_id

    def __str__(self) -> str:
        if self.ours:
            return f"the blob store is this installation's, {self.own_id}"
        if self.owner_id is None:
            return f"the blob store is nobody's yet; the workers of {self.own_id} make it theirs"
        return (
            f"the blob store belongs to {self.owner_id} and this is {self.own_id}, as after a restore or where two "
            f"services share a store: nothing is removed from it here, and what is stored here the other one may remove"
        )


def known_id(s: Session) -> str | None:
    """The installation's name, where one has been made."""
    return s.scalars(select(Installation.id)).one_or_none()


def own_id(s: Session) -> str:
    """The installation's name, made when it is first asked for."""
    if (known := known_id(s)) is not None:
        return known
    values = {"number": 1, "id": new_id("inst"), "created_at": time.time()}
    s.execute(_INSERT[clock.dialect(s)](Installation).values(values).on_conflict_do_nothing())
    return s.scalars(select(Installation.id)).one()


def forget(s: Session) -> str:
    """Take the name away, so that another is made; which it was."""
    name = own_id(s)
    s.execute(delete(Installation))
    return name


def look(database: Database, blobs: BlobStore) -> Standing:
    """Whose the blobs are; they stay nobody's if they are."""
    return Standing(_named(database), blobs.owner())


def claim(database: Database, blobs: BlobStore) -> Standing:
    """Have the blobs be this installation's, if they are nobody's yet."""
    own = _named(database)
    return Standing(own, blobs.claim(own))


def take_over(database: Database, blobs: BlobStore) -> Standing:
    """Have the blobs be this installation's, whosever they were."""
    own = _named(database)
    blobs.take_over(own)
    return Standing(own, own)


def _named(database: Database) -> str:
    with database.write() as s:
        return own_id(s)


def main(arguments: list[str]) -> int:
    """Tell whose the blobs are; 1 when they are another installation's, or cannot be asked about.

    Whoever only asks claims nothing: the store may be a folder that a disk is not mounted on.
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
