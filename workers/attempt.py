"""An attempt: one claim of a job, with everything that is needed to carry it out."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

from db.blobs import BlobStore
from workers.claim import Lease, LeaseLostError
from workers.settings import WorkerSettings


class AskedToStop(Exception):
    """The attempt is to end early: the job is cancelled, paused or preempted, or its worker is to stop."""


class Attempt(NamedTuple):
    """One claim of a job. `lineage` is that of its results; `stopping` is set when the worker is to stop."""

    lease: Lease
    run_dir: Path
    lineage: dict[str, Any]
    blobs: BlobStore
    settings: WorkerSettings
    stopping: threading.Event

    def heed(self) -> None:
        """Raise if the attempt is to end; to be called between the parts of long work that runs without an engine.

        Raises:
            AskedToStop: the attempt is to end here.
            LeaseLostError: another attempt holds the job by now.
        """
        self.heed_cancel()
        if self.stopping.is_set() or self.lease.let_go_requested.is_set():
            raise AskedToStop

    def heed_cancel(self) -> None:
        """Raise if the job is cancelled; for the last part of a job, which a pause or a stop had better wait for."""
        if self.lease.lost.is_set():
            raise LeaseLostError(self.lease.job.id)
        if self.lease.cancel_requested.is_set():
            raise AskedToStop
