"""Celery's consumer, but for how it waits for a broker that is away."""

import logging
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

_LOG = logging.getLogger(__name__)
_RETRY_EVERY_S = 1


class PatientConsumer(Consumer):
    """Tries every second, for ever, and says so once. Celery's own pauses grow to 30 s, its log with them."""

    def ensure_connected(self, conn: Any) -> Any:
        told = False

        def tell(error: Exception, _pause_s: float) -> None:
            nonlocal told
            if not told:
                _LOG.warning("the broker cannot be reached, jobs that run go on: %s", error)
            told = True

        connected = conn.ensure_connection(
            tell,
            None,
            interval_start=_RETRY_EVERY_S,
            interval_step=0,
            interval_max=_RETRY_EVERY_S,
            callback=maybe_shutdown,
        )
        if told:
            _LOG.warning("the broker is back")
        self.first_connection_attempt = False
        return connected
