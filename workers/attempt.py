"""An attempt: one claim of a job, with all that carrying it out needs."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

from db.blobs import BlobStore
from workers.claim import Lease
from workers.settings import WorkerSettings


class Attempt(NamedTuple):
    """`lineage` is where the results come from; `stopping` is set when the worker is to stop."""

    lease: Lease
    run_dir: Path
    lineage: dict[str, Any]
    blobs: BlobStore
    settings: WorkerSettings
    stopping: threading.Event
