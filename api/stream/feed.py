"""One look at the database for all streams of this process, and its news for those who follow."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping

from anyio import to_thread

from api.stream.channel import Channel, Head
from api.stream.frames import Batch, read_batch
from db import feed
from db.session import Database, Session

logger = logging.getLogger("trainyard.api")

_POLL_S = 0.05
_RETRY_S = 1.0


class Feed:
    """Polls the heads of the followed jobs while anyone follows, and reads what is new once for all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @contextlib.contextmanager
    def join(self, job_id: str) -> Iterator[Channel]:
        """The job's channel, for one who follows it meanwhile."""
        channel = self._channels.get(job_id)
        if channel is None:
            channel = self._channels[job_id] = Channel(lambda after: self._read(job_id, after))
        if self._closing:
            channel.close()
        channel.followers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield channel
        finally:
            channel.followers -= 1
            if not channel.followers:
                del self._channels[job_id]

    def followers(self, job_id: str) -> int:
        """How many follow the job through this process."""
        channel = self._channels.get(job_id)
        return 0 if channel is None else channel.followers

    def close(self) -> None:
        """Let every stream end now."""
        self._closing = True
        for channel in self._channels.values():
            channel.close()

    async def _poll(self) -> None:
        while self._channels and not self._closing:
            known = {job_id: channel.head for job_id, channel in self._channels.items()}
            try:
                news = await to_thread.run_sync(self._look, known)
            except Exception:  # a stream outlives a restart of the database, so its poller must too
                logger.exception("the feed cannot read the database; it tries again in %s s", _RETRY_S)
                await asyncio.sleep(_RETRY_S)
                news = {}
            for job_id, channel in self._channels.items():
                if job_id in news and channel.head == known[job_id]:  # else it is another one, joined meanwhile
                    channel.tell(*news[job_id])
                channel.keep_alive()
            await asyncio.sleep(_POLL_S)

    def _look(self, known: Mapping[str, Head | None]) -> dict[str, tuple[Head, Batch | None]]:
        """The jobs whose head is another one than was known, with what came since, all of one snapshot."""
        with self._database.read() as session:
            changed = {job_id: head for job_id, head in feed.heads(session, known).items() if head != known[job_id]}
            return {job_id: (head, _since(session, job_id, known[job_id])) for job_id, head in changed.items()}

    def _read(self, job_id: str, after: int) -> Batch:
        with self._database.read() as session:
            return read_batch(session, job_id, after)


def _since(session: Session, job_id: str, known: Head | None) -> Batch | None:
    return None if known is None else read_batch(session, job_id, known[0])
