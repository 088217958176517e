"""The feed: one poll of the database for all streams of this process."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from anyio import to_thread

from api.stream.channel import Channel, Head
from api.stream.frames import Batch, read_batch
from db import feed, keys
from db.session import Database, Session

logger = logging.getLogger("trainyard.api")

_POLL_S = 0.05
_RETRY_S = 1.0
_KEYS_EVERY_S = 0.5
"""Keys are checked this often, so that the streams of a revoked key end within a second."""


class _News(NamedTuple):
    """Jobs whose head has changed, with what came since, and followers' keys that are no longer valid."""

    jobs: dict[str, tuple[Head, Batch | None]]
    ended_keys: AbstractSet[str]


_NO_NEWS = _News({}, frozenset())


class Feed:
    """Polls the heads of followed jobs while there are followers, and reads what is new once for all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, Channel] = {}
        self._keys: Counter[str] = Counter()
        self._ended_keys: set[str] = set()
        self._asked_for_keys_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @contextlib.contextmanager
    def join(self, job_id: str, key_id: str) -> Iterator[Channel]:
        """Follow a job by a key: yields the job's channel."""
        channel = self._channels.get(job_id)
        if channel is None:
            channel = self._channels[job_id] = Channel(lambda after: self._read(job_id, after))
        if self._closing:
            channel.close()
        channel.followers += 1
        if not self._keys[key_id]:
            self._asked_for_keys_at = 0.0  # it may have been revoked after it was looked up
        self._keys[key_id] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield channel
        finally:
            channel.followers -= 1
            if not channel.followers:
                del self._channels[job_id]
            self._keys[key_id] -= 1
            if not self._keys[key_id]:
                del self._keys[key_id]
                self._ended_keys.discard(key_id)

    def may(self, key_id: str) -> bool:
        """Return whether the key is still valid."""
        return key_id not in self._ended_keys

    def followers(self, job_id: str) -> int:
        """Return the number of followers of the job in this process."""
        channel = self._channels.get(job_id)
        return 0 if channel is None else channel.followers

    def close(self) -> None:
        """End every stream now."""
        self._closing = True
        for channel in self._channels.values():
            channel.close()

    async def _poll(self) -> None:
        while self._channels and not self._closing:
            known = {job_id: channel.head for job_id, channel in self._channels.items()}
            asked = self._keys_to_ask_for()
            try:
                news = await to_thread.run_sync(self._look, known, asked)
            except Exception:  # a stream outlives a restart of the database, so its poller must too
                logger.exception("the feed cannot read the database; it tries again in %s s", _RETRY_S)
                await asyncio.sleep(_RETRY_S)
                news = _NO_NEWS
            else:
                if asked and self._keys.keys() <= asked | self._ended_keys:
                    self._asked_for_keys_at = time.monotonic()
            self._ended_keys |= news.ended_keys & self._keys.keys()
            for job_id, channel in self._channels.items():
                if (
                    job_id in news.jobs and channel.head == known[job_id]
                ):  # otherwise it is a new channel, made meanwhile
                    channel.publish(*news.jobs[job_id])
                elif news.ended_keys:
                    channel.wake()
                channel.keep_alive()
            await asyncio.sleep(_POLL_S)

    def _keys_to_ask_for(self) -> AbstractSet[str]:
        """Return the followers' keys when it is time to check them, otherwise none."""
        if time.monotonic() - self._asked_for_keys_at < _KEYS_EVERY_S:
            return frozenset()
        return self._keys.keys() - self._ended_keys

    def _look(self, known: Mapping[str, Head | None], key_ids: AbstractSet[str]) -> _News:
        """Read all news in one snapshot."""
        with self._database.read() as session:
            changed = {job_id: head for job_id, head in feed.heads(session, known).items() if head != known[job_id]}
            news = {job_id: (head, _since(session, job_id, known[job_id])) for job_id, head in changed.items()}
            return _News(news, key_ids - keys.still_working(session, key_ids) if key_ids else frozenset())

    def _read(self, job_id: str, after: int) -> Batch:
        with self._database.read() as session:
            return read_batch(session, job_id, after)


def _since(session: Session, job_id: str, known: Head | None) -> Batch | None:
    return None if known is None else read_batch(session, job_id, known[0])
