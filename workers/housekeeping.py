"""Housekeeping: the reaper's thread that removes what is no longer needed from disk, blob store and database."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from db import evals, files, idempotency, outbox, uploads, webhooks, workers
from db.blobs import BlobStore
from db.errors import DiskFull, InUse, Unavailable
from db.session import Database, Session
from workers.blob_sweeper import UnnamedBlobs
from workers.leftovers import TIDY_EVERY_S, UPLOAD_AT_MOST_S, tidy
from workers.settings import WorkerSettings

_SENT_KEPT_S = 3600.0
_WORKERS_KEPT_S = 24 * 3600.0
_DELIVERIES_KEPT_S = 30 * 24 * 3600.0
_EVALS_KEPT_S = 3600.0
_BATCH = 200
_PAUSE_S = 0.05
"""The time between batches of a table, in which other writers have their turn."""
_REMOVALS: tuple[Callable[[Session], int], ...] = (
    lambda s: outbox.purge(s, _SENT_KEPT_S, _BATCH),
    lambda s: workers.forget(s, _WORKERS_KEPT_S),
    lambda s: webhooks.purge(s, _DELIVERIES_KEPT_S, _BATCH),
    lambda s: idempotency.purge(s, _BATCH),
    lambda s: uploads.forget_expired(s, UPLOAD_AT_MOST_S, _BATCH),
    lambda s: evals.purge(s, _EVALS_KEPT_S, _BATCH),
)
"""Each removes a batch of rows and returns how many."""
_LOG = logging.getLogger(__name__)


class Housekeeping(threading.Thread):
    """Does every task once a minute.

    It is a thread of its own because a blob store that is away blocks it for as long as its requests take to give up,
    and bulk removals take minutes; meanwhile the sweep of the reaper brings leases back. A task that fails is left to
    the next time and holds up no other; while the database or the blob store is away, the tasks after it are left to
    the next time too. A full disk is not such an outage: the tasks that follow may free space.
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
            *(partial(self._remove, removal) for removal in _REMOVALS),
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
        except DiskFull as error:  # before Unavailable: a full database is both
            _LOG.warning("housekeeping is left to the next time: %s", error)
        except Unavailable:
            raise
        except OSError as error:
            _LOG.warning("housekeeping is left to the next time: %s", error)
        except Exception:  # noqa: BLE001 - the thread's edge: a disk that nobody tidies fills up unseen
            _LOG.exception("housekeeping is left to the next time")

    def _expire_files(self) -> None:
        self._expired_to = expire_files(self._database, self._expired_to)

    def _remove(self, removal: Callable[[Session], int]) -> None:
        _remove_all(self._database, removal, self._stopping)


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
    """Remove old rows about messages, creates, workers, aborted uploads, webhooks and deleted evals; return how many."""
    return sum(_remove_all(database, removal, threading.Event()) for removal in _REMOVALS)


def _remove_all(database: Database, removal: Callable[[Session], int], stopping: threading.Event) -> int:
    """Remove one batch after the other, each in a transaction of its own, and return how many rows."""
    removed, count = 0, _BATCH
    while count >= _BATCH and not stopping.is_set():
        with database.write() as s:
            count = removal(s)
        removed += count
        stopping.wait(_PAUSE_S if count >= _BATCH else 0.0)
    return removed
