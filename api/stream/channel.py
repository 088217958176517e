"""Channels: the followers of one job share every read of the database and every encoded frame."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from anyio import to_thread

from api.stream.frames import Batch

_PING_S = 15.0
_REMEMBERED = 8
"""How many reads are kept until there is news: followers that catch up do so from a few places."""
_RECONNECT = b"retry: 1000\n\n"
_PING = b": ping\n\n"
_DONE = b"data: [DONE]\n\n"

Head = tuple[int, str]
"""The newest `seq` of a job, and its state."""


class Channel:
    """The channel of one job. `read` returns what came after a `seq`; it runs in a thread."""

    def __init__(self, read: Callable[[int], Batch]) -> None:
        self.head: Head | None = None
        self.followers = 0
        self._read = read
        self._round = 0
        self._news = asyncio.Event()
        self._newest: tuple[int, Batch] | None = None
        self._reading: dict[int, asyncio.Task[Batch]] = {}
        self._woke_at = time.monotonic()
        self._closed = False

    async def follow(self, after: int, may: Callable[[], bool] = lambda: True) -> AsyncIterator[bytes]:
        """Yield everything after the `seq` `after`, until the job has ended and all is sent, while the follower `may` read."""
        yield _RECONNECT
        while may() and not self._closed:
            seen = self._round  # before the read: what comes during it begins another round
            batch = await self._after(after)
            if batch.frames:
                after = batch.last_seq
                yield batch.frames
            if batch.full:
                continue
            if batch.ended:
                yield _DONE
                return
            while self._round == seen and may() and not self._closed:
                await self._news.wait()
                if self._round == seen and may() and not self._closed:
                    yield _PING

    def publish(self, head: Head, batch: Batch | None) -> None:
        """Publish that the job has news; `batch` is what came after the head that was known."""
        self._newest = None if batch is None or self.head is None else (self.head[0], batch)
        self.head = head
        self._round += 1
        self._reading.clear()
        self.wake()

    def keep_alive(self) -> None:
        """Send a ping to followers that were sent nothing for a while."""
        if time.monotonic() - self._woke_at >= _PING_S:
            self.wake()

    def close(self) -> None:
        """End every follower's stream now."""
        self._closed = True
        self.wake()

    def wake(self) -> None:
        """Wake every follower, to check whether it should still wait."""
        self._woke_at = time.monotonic()
        self._news.set()
        self._news.clear()

    async def _after(self, after: int) -> Batch:
        """Return what came after a `seq`: from the feed for followers that are up to date, otherwise read once for all."""
        if self._newest is not None and self._newest[0] == after:
            return self._newest[1]
        if (reading := self._reading.get(after)) is None:
            reading = asyncio.ensure_future(to_thread.run_sync(self._read, after))
            reading.add_done_callback(lambda done: self._forget_failed(after, done))
            if len(self._reading) == _REMEMBERED:
                del self._reading[next(iter(self._reading))]
            self._reading[after] = reading
        return await asyncio.shield(reading)  # a follower that leaves must not cancel it for others

    def _forget_failed(self, after: int, done: asyncio.Task[Batch]) -> None:
        if (done.cancelled() or done.exception()) and self._reading.get(after) is done:
            del self._reading[after]
