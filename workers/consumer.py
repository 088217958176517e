"""Celery's consumer, with another way of waiting for a broker that is away."""

import logging
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

_LOG = logging.getLogger(__name__)
_RETRY_EVERY_S = 1


class PatientConsumer(Consumer):
    """Reconnects every second, for ever, and logs the outage once. Celery's own pauses grow to 30 s, each logged."""

    def ensure_connected(self, conn: Any) -> Any:
        logged = False

        def log_once(error: Exception, _pause_s: float) -> None:
            nonlocal logged
            if not logged:
                _LOG.warning("the broker cannot be reached; running jobs continue: %s", error)
            logged = True

        connected = conn.ensure_connection(
            log_once,
            None,
            interval_start=_RETRY_EVERY_S,
            interval_step=0,
            interval_max=_RETRY_EVERY_S,
            callback=maybe_shutdown,
        )
        if logged:
            _LOG.warning("the broker is back")
        self.first_connection_attempt = False
        return connected
