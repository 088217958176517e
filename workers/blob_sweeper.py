"""Removal of unnamed blobs: stored bytes that no file and no artifact names."""

import logging

from db import installation, references
from db.blobs import BlobStore
from db.session import Database

_FOLDERS = 256
"""Blobs are stored in folders named after the first two digits of their hash, 00 to ff."""
_AT_ONCE = 16
_LOG = logging.getLogger(__name__)


class UnnamedBlobs:
    """Sweeps the store in rounds, a few folders at a time.

    A blob is stored before the row that names it is written, so only blobs stored more than `keep_s` ago are
    considered. A backup copies blobs after rows, so blobs named by the row of a deleted file or artifact are kept for
    `keep_s` after the deletion too; the rows of an upload's parts go when it is completed or cancelled, so their blobs
    are kept only for `keep_s` after they were stored. Storing a blob again renews it, which is checked once more as it
    is removed. A store that belongs to another installation is left alone, since its blobs are named in another
    database.
    """

    def __init__(self, database: Database, blobs: BlobStore, keep_s: float) -> None:
        self._database = database
        self._blobs = blobs
        self._keep_s = keep_s
        self._next = 0
        self._logged: installation.Standing | None = None

    def remove_some(self, now: float, folders: int = _AT_ONCE) -> int:
        """Remove the unnamed blobs of the next folders, and return how many."""
        if not self._ours():
            return 0
        removed = 0
        for _ in range(folders):
            removed += self._remove_in(f"{self._next:02x}", now - self._keep_s)
            self._next = (self._next + 1) % _FOLDERS
        if removed:
            _LOG.info("%d stored files that nothing names were removed", removed)
        return removed

    def _ours(self) -> bool:
        standing = installation.claim(self._database, self._blobs)
        if not standing.ours and standing != self._logged:
            _LOG.warning("%s; %s", standing, installation.MEND)
        self._logged = standing
        return standing.ours

    def _remove_in(self, folder: str, moment: float) -> int:
        old = self._blobs.unused_since(folder, moment)
        if not old:
            return 0
        with self._database.read() as s:
            named = references.named(s, old, moment)
        return sum(self._blobs.discard(sha256, moment) for sha256 in old if sha256 not in named)
