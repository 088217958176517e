"""The courier: a thread that delivers webhooks, many at once, so that a slow receiver delays no other."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from db import webhooks
from db.errors import Unavailable
from db.receivers import Receivers
from db.session import Database
from db.settings import WebhookSettings, read_secret
from db.webhook_secrets import WebhookSecrets
from db.webhooks import Due
from workers.sender import Outcome, Resolve, Sender, look_up

_POLL_S = 0.5
_AT_ONCE = 32
_ROOM = webhooks.Room(of_a_project=8, of_an_endpoint=2)
_HOLD_S = 90.0
"""Longer than a name lookup and the receiver's answer take; after it another courier may try."""
_LOG = logging.getLogger(__name__)


class Courier(threading.Thread):
    """Tries the deliveries that are due and records the outcome of each; waits while the database is away."""

    def __init__(
        self,
        database: Database,
        signing: WebhookSecrets,
        receivers: Receivers,
        pause_s: float,
        resolve: Resolve = look_up,
    ) -> None:
        super().__init__(name="courier", daemon=True)
        self._database = database
        self._signing = signing
        self._receivers = receivers
        self._pause_s = pause_s
        self._resolve = resolve
        self._stopping = threading.Event()
        self._tries: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()
        """Open tries by project and by endpoint."""
        self._away = False

    def stop(self, timeout_s: float = 3.0) -> None:
        """End the thread; tries that are under way are repeated later."""
        self._stopping.set()
        self.join(timeout_s)

    def run(self) -> None:
        asyncio.run(self._carry())

    async def _carry(self) -> None:
        # Names are looked up in threads, and hostile ones take long, so there is a thread for each try.
        threads = ThreadPoolExecutor(_AT_ONCE + 1, thread_name_prefix="courier")
        asyncio.get_running_loop().set_default_executor(threads)
        sender = Sender(self._receivers, self._resolve)
        while not self._stopping.is_set():
            for due in await self._unless_away(asyncio.to_thread(self._claim)) or []:
                self._under_way.update((due.project_id, due.endpoint_id))
                task = asyncio.create_task(self._try(sender, due))
                self._tries.add(task)
                task.add_done_callback(self._tries.discard)
            await asyncio.sleep(_POLL_S)
        for task in self._tries:
            task.cancel()
        await asyncio.gather(*self._tries, return_exceptions=True)
        await sender.close()
        threads.shutdown(wait=False, cancel_futures=True)

    def _claim(self) -> list[Due]:
        room = _AT_ONCE - len(self._tries)
        under_way = +self._under_way  # without the zeros
        if room <= 0:
            return []
        with self._database.read() as s:
            chosen = webhooks.ready(s, _ROOM, under_way, limit=room)
        if not chosen:
            return []
        with self._database.write() as s:
            return webhooks.take(s, chosen, hold_s=_HOLD_S)

    async def _try(self, sender: Sender, due: Due) -> None:
        try:
            outcome = await sender.post(due.url, due.body.encode(), self._headers(due))
        except Exception as error:  # noqa: BLE001 - the edge: one receiver must not end the courier
            _LOG.exception("webhook %s", due.id)
            outcome = Outcome(error=f"sending broke off: {type(error).__name__}")
        finally:
            self._under_way.subtract((due.project_id, due.endpoint_id))
        await self._unless_away(asyncio.to_thread(self._settle, due, outcome))

    def _headers(self, due: Due) -> dict[str, str]:
        timestamp = int(time.time())
        signed = f"{due.id}.{timestamp}.{due.body}"
        signatures = [self._signing.signature(due.endpoint_id, nonce, signed) for nonce in due.nonces]
        return {
            "webhook-id": due.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }

    def _settle(self, due: Due, outcome: Outcome) -> None:
        with self._database.write() as s:
            webhooks.settle(s, due, status_code=outcome.status_code, error=outcome.error, pause_s=self._pause_s)

    async def _unless_away(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of the work; None while the database is away, which is logged once."""
        try:
            result = await work
        except Unavailable as error:
            if not self._away:
                _LOG.warning("webhooks wait: %s", error)
            self._away = True
            return None
        self._away = False
        return result


def start_courier(database: Database, home: Path) -> Courier | None:
    """Start a courier; None where the service's secret, which signs deliveries, cannot be read."""
    settings = WebhookSettings()
    try:
        signing = WebhookSecrets(read_secret(settings.secret, home))
    except ValueError as error:
        _LOG.warning("no webhooks are sent from here: %s", error)
        return None
    courier = Courier(database, signing, settings.receivers, settings.webhook_pause_s)
    courier.start()
    return courier
