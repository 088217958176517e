"""Presence: a worker process tells the database that it is there, whether or not it runs a job."""

import logging
import os
import socket
import threading
import time

from db import placement, workers
from db.errors import Unavailable
from db.session import Database
from workers import machine
from workers.settings import WorkerSettings

_LOG = logging.getLogger(__name__)


class Presence(threading.Thread):
    """Tells of the worker `name` at every heartbeat; an outage of the database is sat out."""

    def __init__(self, database: Database, name: str, settings: WorkerSettings) -> None:
        super().__init__(name="presence", daemon=True)
        self._database = database
        self._worker = name
        self._labels = settings.worker_labels
        self._heartbeat_s = settings.heartbeat_s
        self._jobs_at_once = settings.worker_concurrency
        self._ended = threading.Event()

    def run(self) -> None:
        device = machine.device()
        advert = workers.Advert(
            name=self._worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device.name,
            memory_bytes=device.memory_bytes // self._jobs_at_once,  # its other processes tell of the rest
            heartbeat_s=self._heartbeat_s,
            started_at=time.time(),
            labels=self._labels | {placement.DEVICE: device.kind},
            gpus=device.gpus,
        )
        while True:
            try:
                with self._database.write() as s:
                    workers.beat(s, advert)
            except Unavailable as error:
                _LOG.debug("the worker cannot tell that it is there: %s", error)
            if self._ended.wait(self._heartbeat_s):
                return

    def leave(self) -> None:
        """The worker ends in good order."""
        self._ended.set()
        self.join(self._heartbeat_s)
        try:
            with self._database.write() as s:
                workers.leave(s, self._worker)
        except Unavailable as error:
            _LOG.warning("the worker cannot tell that it ends: %s", error)
