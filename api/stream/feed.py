"""One look at the database for all streams of this process, and a wake-up for those that have news."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from anyio import to_thread

from db import feed
from db.session import Database

logger = logging.getLogger("trainyard.api")

_POLL_S = 0.2
_RETRY_S = 1.0

Head = tuple[int, str]
"""The newest number of a job, and its state."""


class Feed:
    """Polls the heads of the watched jobs while anyone watches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._heads: dict[str, Head] = {}
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    @contextlib.contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job has news, and when the service stops."""
        news = asyncio.Event()
        self._watchers.setdefault(job_id, set()).add(news)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield news
        finally:
            watchers = self._watchers[job_id]
            watchers.discard(news)
            if not watchers:
                del self._watchers[job_id]
                self._heads.pop(job_id, None)

    def close(self) -> None:
        """Let every stream end now."""
        self.closing = True
        for watchers in self._watchers.values():
            for news in watchers:
                news.set()

    async def _poll(self) -> None:
        while self._watchers and not self.closing:
            try:
                heads = await to_thread.run_sync(self._look, tuple(self._watchers))
            except Exception:  # a stream outlives a restart of the database, so its poller must too
                logger.exception("the feed cannot read the database; it tries again in %s s", _RETRY_S)
                await asyncio.sleep(_RETRY_S)
                continue
            for job_id, head in heads.items():
                if self._heads.get(job_id) != head and job_id in self._watchers:
                    self._heads[job_id] = head
                    for news in self._watchers[job_id]:
                        news.set()
            await asyncio.sleep(_POLL_S)

    def _look(self, job_ids: tuple[str, ...]) -> dict[str, Head]:
        with self._database.read() as session:
            return feed.heads(session, job_ids)
