"""Leftovers on a machine's disk: run directories of ended jobs, and files of writers that were killed."""

import logging
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from db import jobs
from db.blobs import BlobStore
from db.errors import Unavailable
from db.session import Database
from db.state import ENDED, JobState
from workers.settings import WorkerSettings

TIDY_EVERY_S = 60.0
UPLOAD_AT_MOST_S = 24 * 3600.0
"""A temporary file that is older than this belongs to a writer that is dead."""
_LOG = logging.getLogger(__name__)


def tidy(database: Database, settings: WorkerSettings) -> int:
    """Remove the run directories of jobs that ended a while ago, and of superseded attempts, and return how many.

    While the disk is nearly full, those of ended jobs are removed at once.
    """
    removed = 0
    keep_s = 0.0 if _is_low(settings) else settings.keep_runs_s
    for folder in settings.runs_dir.glob("job-*"):
        with database.read() as s:
            job = jobs.find(s, folder.name)
        if job is None:
            continue  # it belongs to another database
        if job.state in ENDED and job.finished_at is not None:
            is_over = job.finished_at + keep_s < time.time()
        else:
            is_over = job.state == JobState.PAUSED  # it may stay paused for long, and its checkpoint is stored
        # A new attempt may begin just now: one that is newer than the row that was read keeps its folder.
        newest = job.fence if is_over else job.fence - 1
        for path in _listed(folder):
            attempt = path.name.partition(".")[0]
            if attempt.isdecimal() and int(attempt) <= newest:
                shutil.rmtree(path, ignore_errors=True)  # its engine may still be ending in it: the next time, then
                removed += not path.exists()
        if is_over:
            with suppress(OSError):
                folder.rmdir()
    return removed


def _is_low(settings: WorkerSettings) -> bool:
    return settings.runs_dir.exists() and shutil.disk_usage(settings.runs_dir).free < settings.low_space_bytes


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:  # another process tidies too
        return []


class Tidying(threading.Thread):
    """Tidies a worker's own disk, since the reaper may run on another machine."""

    def __init__(self, database: Database, blobs: BlobStore, settings: WorkerSettings) -> None:
        super().__init__(name="tidying", daemon=True)
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                tidy(self._database, self._settings)
                self._blobs.discard_stale(UPLOAD_AT_MOST_S, time.time())
            except Unavailable as error:
                _LOG.debug("tidying is left to the next time: %s", error)
            except OSError as error:
                _LOG.warning("tidying is left to the next time: %s", error)
            except Exception:  # noqa: BLE001 - the thread's edge: a disk that nobody tidies fills up unseen
                _LOG.exception("tidying is left to the next time")
            self._ended.wait(TIDY_EVERY_S)

    def leave(self) -> None:
        """End the thread, without waiting for the removal that is under way."""
        self._ended.set()
