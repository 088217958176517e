"""The queue: the Celery app, and the thread that carries the database's outbox to the broker."""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from celery import Celery
from celery.utils import uuid
from celery.utils.nodenames import anon_nodename
from kombu.connection import Connection
from kombu.exceptions import BatchPublishError, OperationalError

from db import outbox
from db.errors import Unavailable
from db.session import Database
from workers.settings import WorkerSettings

RUN_JOB = "trainyard.run_job"
QUEUE = "trainyard"

_POLL_S = 0.5
_GATHER_S = 0.1
"""The time between batches: under load, messages that come meanwhile are sent together. A single one never waits."""
_BATCH = 100
_LEVELS = 10
"""The number of priorities of the Redis transport; 0 is taken first."""
_TRANSPORT = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "priority_steps": list(range(_LEVELS)),
    "queue_order_strategy": "priority",
}
# A sender tries once: kombu would retry by itself, with growing pauses.
_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
_LOG = logging.getLogger(__name__)

app = Celery("trainyard", set_as_current=False)


def _configuration() -> dict[str, Any]:
    """Return the configuration; read when the app is first used, so that importing this module needs no settings."""
    return {
        "broker_url": WorkerSettings().broker_url,
        # A message is a hint and the database is the truth: it is acknowledged before the work
        # starts. Late acknowledgement would run a long job again after every visibility timeout.
        "task_acks_late": False,
        "task_default_queue": QUEUE,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "task_publish_retry": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A worker survives an outage of any length: it waits for a silent socket shortly, and retries.
        "broker_transport_options": _TRANSPORT,
        "worker_consumer": "workers.consumer:PatientConsumer",
        # A worker takes a message only when it has a process free for it: none waits behind a long
        # job while another worker idles, and none is left inside a worker that shuts down.
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": True,
        "worker_redirect_stdouts": False,
    }


app.add_defaults(_configuration)


def connect(broker_url: str | None = None) -> Connection:
    """Return a connection to the broker that fails within seconds when the broker is away."""
    return app.connection_for_write(broker_url, connect_timeout=2, transport_options=_TRANSPORT | _ONCE)


def enqueue(jobs: Iterable[tuple[str, int]], connection: Connection) -> None:
    """Send the workers a message for each job, given by id and priority (-100 to 100), in one round trip.

    Raises kombu.exceptions.OperationalError when the broker cannot be reached; some messages may have arrived then.
    """
    # One producer and its batch for all: otherwise each message would create a client of its own.
    producer = app.amqp.Producer(connection.default_channel, auto_declare=False)
    origin = anon_nodename()
    try:
        with producer.batch():
            for job_id, priority in jobs:
                level = (100 - priority) * (_LEVELS - 1) // 200
                # What `send_task` does, without what it looks up for every message.
                fields = {"argsrepr": f"({job_id!r},)", "kwargsrepr": "{}", "origin": origin, "ignore_result": True}
                message = app.amqp.as_task_v2(uuid(), RUN_JOB, args=(job_id,), **fields)
                producer.publish(
                    message.body,
                    exchange="",
                    routing_key=QUEUE,
                    priority=level,
                    headers=message.headers,
                    **message.properties,
                )
    except BatchPublishError as error:
        raise OperationalError(str(error.__cause__ or error)) from error


def length(connection: Connection) -> int:
    """Return how many messages wait in the broker.

    Raises kombu.exceptions.OperationalError when the broker cannot be reached.
    """
    try:
        return app.amqp.queues[QUEUE](connection.default_channel).queue_declare().message_count
    except (*connection.connection_errors, *connection.channel_errors) as error:
        raise OperationalError(str(error)) from error


class Dispatcher(threading.Thread):
    """Sends outbox rows to the broker as they fall due; `wake` makes it look at once.

    It survives outages of the broker and the database: what cannot be sent stays in the outbox, and the first failure
    of an outage is logged. Two dispatchers may send the same row, which is harmless, since a job is claimed once.
    """

    def __init__(self, database: Database, broker_url: str | None = None) -> None:
        super().__init__(name="dispatcher", daemon=True)
        self._database = database
        self._broker_url = broker_url
        self._woken = threading.Event()
        self._stopping = False
        self._failing: str | None = None
        self._connection: Connection | None = None

    def wake(self) -> None:
        """Look for messages to send now. Never blocks."""
        self._woken.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread; messages that are not sent stay in the outbox."""
        self._stopping = True
        self._woken.set()
        self.join(timeout_s)

    def run(self) -> None:
        while not self._stopping:
            try:
                while self._send_batch():
                    pass
            except OperationalError as error:
                self._disconnect()
                self._log_outage(f"the broker cannot be reached, messages wait in the outbox: {error}")
            except Unavailable as error:
                self._log_outage(str(error))
            else:
                self._log_recovery()
            time.sleep(_GATHER_S)
            self._woken.wait(_POLL_S)
            self._woken.clear()
        self._disconnect()

    def _send_batch(self) -> bool:
        """Send a batch of messages that are due, and return whether there may be more."""
        with self._database.read() as s:
            due = outbox.pending(s, _BATCH)
        if due:
            enqueue([(message.job_id, message.priority) for message in due], self._connect())
            with self._database.write() as s:
                outbox.mark_sent(s, [message.id for message in due])
        return len(due) == _BATCH and not self._stopping

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = connect(self._broker_url)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _log_outage(self, message: str) -> None:
        if self._failing is None:
            _LOG.warning("%s", message)
        self._failing = message

    def _log_recovery(self) -> None:
        if self._failing is not None:
            _LOG.warning("messages are delivered again")
        self._failing = None
