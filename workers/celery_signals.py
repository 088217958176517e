"""The life of a worker's processes: what they open, and how they are asked to stop."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from billiard.process import current_process
from celery import signals
from celery.worker import state as worker_state

from db import leases, logs, traces
from db.blobs import BlobStore
from db.errors import Unavailable
from db.session import Database
from workers import recover
from workers.leftovers import Tidying
from workers.presence import Presence
from workers.settings import WorkerSettings
from workers.warm import WarmEngine

_LOG = logging.getLogger(__name__)


class Slot(NamedTuple):
    """What a worker process keeps from job to job. `name` is the worker name under which it holds leases."""

    name: str
    settings: WorkerSettings
    database: Database
    blobs: BlobStore
    warm: WarmEngine
    presence: Presence


_main_pid = 0
_slot: Slot | None = None
_tidying: Tidying | None = None


def slot() -> Slot:
    """Return the slot of this process."""
    assert _slot is not None, "a job runs in a worker process"
    return _slot


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Provide an event that SIGTERM sets while a job runs here; outside it, SIGTERM ends the process."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)


@signals.setup_logging.connect(weak=False)
def _log(**_: object) -> None:
    """Give Celery's log lines the format of ours."""
    logs.begin()


@signals.worker_init.connect(weak=False)
def _enter_main(**_: object) -> None:
    global _main_pid  # noqa: PLW0603 - one main process, one number
    _main_pid = os.getpid()


@signals.worker_ready.connect(weak=False)
def _take_ctrl_c(**_: object) -> None:
    """Have Ctrl-C stop a worker as SIGTERM does; Celery's own handler would cut jobs off without a checkpoint."""
    signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


@signals.worker_shutting_down.connect(weak=False)
def _pass_on_stop(**_: object) -> None:
    """Ask running jobs, for which Celery waits, to save and stop."""
    for request in list(worker_state.active_requests):
        if request.worker_pid:
            os.kill(request.worker_pid, signal.SIGTERM)


@signals.worker_process_init.connect(weak=False)
def _enter_process(**_: object) -> None:
    """Open the database after the fork, report the worker, free what it held before a restart, and warm an engine."""
    global _slot, _tidying  # noqa: PLW0603 - one process, one slot
    # Celery has asked the kernel to end this process with its parent, which may already be gone.
    if os.getppid() != _main_pid:
        os._exit(1)
    traces.begin("worker")
    settings = WorkerSettings()
    index = getattr(current_process(), "index", 0)
    _slot = open_slot(settings, index)
    _slot.presence.start()  # first: Celery runs jobs in this process even if something below fails
    try:
        with _slot.database.write() as s:
            leases.expire_worker(s, _slot.name)
        recover.bring_back(_slot.database, settings)
    except Unavailable as error:
        _LOG.warning("what %s held before is left to the reaper: %s", _slot.name, error)
    _slot.warm.prepare()
    if index == 0:  # one of the worker's processes is enough
        _tidying = Tidying(_slot.database, _slot.blobs, settings)
        _tidying.start()


def open_slot(settings: WorkerSettings, index: int) -> Slot:
    """Return the slot of the process with that number; nothing is connected or started yet."""
    # Worker names have no colon, so no other worker's slot has this name.
    name = f"{settings.worker_name}:{index}" if index else settings.worker_name
    database = Database(settings.database_url, idle_s=settings.lease_s / 2)
    return Slot(
        name,
        settings,
        database,
        # Uploads are refused while the disk is low, so that runs may finish in the space that is left.
        settings.open_blobs(low_space_bytes=0),
        WarmEngine(settings.runs_dir / f"warm-{name}.log", enabled=settings.warm_engines > 0),
        Presence(database, name, settings),
    )


@signals.worker_process_shutdown.connect(weak=False)
def _leave_process(**_: object) -> None:
    traces.end()
    if _tidying is not None:
        _tidying.leave()
    if _slot is not None:
        _slot.presence.leave()
        _slot.warm.close()
        _slot.database.close()
