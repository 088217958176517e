"""An attempt: one claim of a job, with all that carrying it out needs."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

from db.blobs import BlobStore
from workers.claim import Lease, LeaseLostError
from workers.settings import WorkerSettings


class AskedToStop(Exception):
    """The job is to be let go before its end: cancelled, paused, to make way, or its worker is to stop."""


class Attempt(NamedTuple):
    """`lineage` is where the results come from; `stopping` is set when the worker is to stop."""

    lease: Lease
    run_dir: Path
    lineage: dict[str, Any]
    blobs: BlobStore
    settings: WorkerSettings
    stopping: threading.Event

    def heed(self) -> None:
        """For what takes long and has no engine to ask: to be called between two parts of it.

        Raises:
            AskedToStop: it is to end here.
            LeaseLostError: the job is another attempt's by now.
        """
        self.heed_cancel()
        if self.stopping.is_set() or self.lease.let_go_requested.is_set():
            raise AskedToStop

    def heed_cancel(self) -> None:
        """The same for what ends the job: whoever would have it stop has sooner what they want if it is finished."""
        if self.lease.lost.is_set():
            raise LeaseLostError(self.lease.job.id)
        if self.lease.cancel_requested.is_set():
            raise AskedToStop
