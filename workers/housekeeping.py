"""Housekeeping: the reaper's thread that removes what is no longer needed from disk, blob store and database."""

import logging
import threading
import time
from collections.abc import Callable

from db import evals, files, idempotency, outbox, uploads, webhooks, workers
from db.blobs import BlobStore
from db.errors import InUse, Unavailable
from db.session import Database
from workers.blob_sweeper import UnnamedBlobs
from workers.leftovers import TIDY_EVERY_S, UPLOAD_AT_MOST_S, tidy
from workers.settings import WorkerSettings

_SENT_KEPT_S = 3600.0
_WORKERS_KEPT_S = 24 * 3600.0
_DELIVERIES_KEPT_S = 30 * 24 * 3600.0
_EVALS_KEPT_S = 3600.0
_BATCH = 200
_LOG = logging.getLogger(__name__)


class Housekeeping(threading.Thread):
    """Does every task once a minute.

    It is a thread of its own because a blob store that is away blocks it for as long as its requests take to give up,
    and bulk removals take minutes; meanwhile the sweep of the reaper brings leases back. A task that fails is left to
    the next time and holds up no other; while the database or the blob store is away, so are those that follow it.
    """

    def __init__(self, database: Database, blobs: BlobStore, settings: WorkerSettings) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._unnamed = UnnamedBlobs(database, blobs, settings.keep_blobs_s)
        self._expired_to = ""
        self._stopping = threading.Event()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread; what is being removed now is not waited for any longer than that."""
        self._stopping.set()
        self.join(timeout_s)

    def run(self) -> None:
        tasks: tuple[Callable[[], object], ...] = (
            lambda: tidy(self._database, self._settings),
            lambda: purge(self._database),
            self._purge_evals,
            self._expire_files,
            lambda: self._blobs.discard_stale(UPLOAD_AT_MOST_S, time.time()),
            lambda: self._unnamed.remove_some(time.time()),
        )
        away = False
        while not self._stopping.is_set():
            try:
                for task in tasks:
                    self._attempt(task)
                away = False
            except Unavailable as error:
                if not away:
                    _LOG.warning("housekeeping waits: %s", error)
                away = True
            self._stopping.wait(TIDY_EVERY_S)

    def _attempt(self, task: Callable[[], object]) -> None:
        if self._stopping.is_set():
            return
        try:
            task()
        except Unavailable:
            raise
        except OSError as error:
            _LOG.warning("housekeeping is left to the next time: %s", error)
        except Exception:  # noqa: BLE001 - the thread's edge: a disk that nobody tidies fills up unseen
            _LOG.exception("housekeeping is left to the next time")

    def _expire_files(self) -> None:
        self._expired_to = expire_files(self._database, self._expired_to)

    def _purge_evals(self) -> None:
        while not self._stopping.is_set() and purge_evals(self._database):
            continue


def expire_files(database: Database, after: str = "") -> str:
    """Delete files that have expired; one that an unfinished job names stays until the job has ended.

    Handles one batch, of ids greater than `after`. Returns the id to continue from, empty after the last batch.
    """
    with database.read() as s:
        over = files.expired(s, _BATCH, after)
    for project_id, file_id in over:
        try:
            with database.write() as s:
                files.delete(s, project_id, file_id)
        except InUse as error:
            _LOG.info("an expired file stays: %s", error)
    return over[-1][1] if len(over) == _BATCH else ""


def purge(database: Database) -> int:
    """Remove old rows about messages, creates, workers, aborted uploads and webhooks, and return how many."""
    with database.write() as s:
        sent, gone = outbox.purge(s, _SENT_KEPT_S), workers.forget(s, _WORKERS_KEPT_S)
        delivered = webhooks.purge(s, _DELIVERIES_KEPT_S)
        return sent + gone + delivered + idempotency.purge(s) + uploads.forget_expired(s, UPLOAD_AT_MOST_S)


def purge_evals(database: Database) -> int:
    """Remove a batch of what is left of evals and runs that were deleted a while ago, and return how many rows."""
    with database.write() as s:
        return evals.purge(s, _EVALS_KEPT_S, _BATCH)
