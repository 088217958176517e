"""`python -m db.verify`: hash every stored file again, and list those that are damaged or missing."""

import hashlib
import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from db import health, references
from db.blobs import CHUNK_BYTES, BlobStore
from db.errors import Damaged, LowSpace, Unavailable
from db.session import Database
from db.settings import StorageSettings

_MEND = (
    "Mend: remove a damaged or unreadable file; then upload the same file again, or copy it from the same folder of a "
    "backup's blobs/.\n"
)
Condition: TypeAlias = Literal["sound", "damaged", "unreadable", "missing"]


class Look(NamedTuple):
    """A blob that the database refers to, and the condition in which it was found."""

    sha256: str
    condition: Condition
    size_bytes: int


def look_at_all(database: Database, blobs: BlobStore) -> Iterator[Look]:
    """Read every blob that the database refers to, and yield what was found.

    Raises:
        Unavailable: the database or the blob store cannot answer.
        LowSpace: the local disk has no room for a file from the bucket.
    """
    with database.read() as s:
        named = references.every(s)
    for sha256 in sorted(named):
        yield _look(blobs, sha256)


def _look(blobs: BlobStore, sha256: str) -> Look:
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with blobs.open(sha256) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
    except FileNotFoundError:
        return Look(sha256, "missing", 0)
    except Damaged:
        return Look(sha256, "damaged", size_bytes)
    except (Unavailable, LowSpace):
        raise
    except OSError:
        return Look(sha256, "unreadable", size_bytes)
    return Look(sha256, "sound" if digest.hexdigest() == sha256 else "damaged", size_bytes)


def main() -> int:
    """Print each blob that is not sound, with the ids that refer to it, and a total. Return 1 if there is any."""
    settings = StorageSettings()
    if not health.begun(settings.database_url):
        sys.stdout.write("nothing is stored yet\n")
        return 0
    database, blobs = Database(settings.database_url), settings.open_blobs(low_space_bytes=0)
    place = settings.blobs or str(settings.blobs_dir)
    try:
        looks = list(look_at_all(database, blobs))
        amiss = [look for look in looks if look.condition != "sound"]
        with database.read() as s:
            for look in amiss:
                path = f"{place.rstrip('/')}/{blobs.path(look.sha256).relative_to(blobs.root)}"
                sys.stdout.write(f"{look.condition} {path}: {', '.join(references.naming(s, look.sha256))}\n")
    except (Unavailable, LowSpace) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        database.close()
    size_bytes = sum(look.size_bytes for look in looks)
    sys.stdout.write(f"{len(looks)} stored files, {size_bytes} bytes: {len(amiss)} damaged or missing\n")
    if amiss:
        sys.stdout.write(_MEND)
    return int(bool(amiss))


if __name__ == "__main__":
    sys.exit(main())
