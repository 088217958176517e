"""Presence: a worker process reports in the database that it can take jobs, whether or not it runs one."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kombu.connection import Connection
from kombu.exceptions import OperationalError

from db import placement, workers
from db.errors import Unavailable
from db.session import Database
from workers import machine, queue
from workers.settings import WorkerSettings

_LOG = logging.getLogger(__name__)


class Presence(threading.Thread):
    """Reports the worker `name` at every heartbeat, and waits while the database is away.

    A worker that can take no job is not reported, so that it soon counts as lost: it then neither holds up jobs that
    need several workers nor counts as free, which would prevent preemption. That is one without a job that cannot reach
    the broker, or one that rests.
    """

    _broker: Connection | None = None

    def __init__(self, database: Database, name: str, settings: WorkerSettings) -> None:
        super().__init__(name="presence", daemon=True)
        self._database = database
        self._worker = name
        self._settings = settings
        self._heartbeat_s = settings.heartbeat_s
        self._advert: workers.Advert | None = None
        self._at_work = self._resting = self._absent = False
        self._ended = threading.Event()

    def run(self) -> None:
        self._advert = self._described()
        next_at = time.monotonic()
        while not self._ended.wait(next_at - time.monotonic()):
            # From beat to beat, however long the broker takes to answer.
            next_at = max(time.monotonic(), next_at + self._heartbeat_s)
            if self._can_take_jobs() and not self._ended.is_set():
                self._beat()
        self._disconnect()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The worker looks for jobs by itself, and needs no broker, until it finds none."""
        self._at_work = True
        if self._absent:  # what it may take depends on its being there
            self._beat()
        try:
            yield
        finally:
            self._at_work = False

    @contextmanager
    def resting(self) -> Iterator[None]:
        """The worker takes no job for a while, since it could not run one."""
        self._resting = True
        try:
            yield
        finally:
            self._resting = False
            self._beat()

    def leave(self) -> None:
        """Report that the worker ends in good order, also where the thread was never started."""
        self._ended.set()
        if self.is_alive():
            self.join(self._heartbeat_s)
        try:
            with self._database.write() as s:
                workers.leave(s, self._worker)
        except Unavailable as error:
            _LOG.warning("the end of the worker cannot be reported: %s", error)

    def _described(self) -> workers.Advert:
        device = machine.device()
        return workers.Advert(
            name=self._worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device.name,
            # Its other processes report the rest.
            memory_bytes=device.memory_bytes // self._settings.worker_concurrency,
            heartbeat_s=self._heartbeat_s,
            started_at=time.time(),
            labels=self._settings.worker_labels | {placement.DEVICE: device.kind},
            gpus=device.gpus,
        )

    def _can_take_jobs(self) -> bool:
        self._absent = self._resting or not (self._at_work or self._reaches_broker())
        return not self._absent

    def _reaches_broker(self) -> bool:
        try:
            if self._broker is None:
                self._broker = queue.connect(self._settings.broker_url)
            queue.length(self._broker)
        except OperationalError as error:  # the consumer logs it
            _LOG.debug("the broker does not answer: %s", error)
            self._disconnect()
            return False
        return True

    def _disconnect(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.close()

    def _beat(self) -> None:
        if self._advert is None:
            return  # the thread has yet to begin
        try:
            with self._database.write() as s:
                workers.beat(s, self._advert)
        except Unavailable as error:
            _LOG.debug("the worker cannot be reported: %s", error)
