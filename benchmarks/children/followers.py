"""Followers of live streams, many in one process; each checks what it receives and records when.

`python -m benchmarks.children.followers PORT KEY` answers each line of stdin with one line of JSON:

- `follow CLIENTS HEADS` ({job: its newest number}): once all have caught up.
- `cut SHARE SECONDS`: some of them lose their connection within that time and come back a second later with the number
  that they have.
- `finish`: once all streams have ended.
"""

import asyncio
import json
import random
import resource
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
import uvloop

_RECONNECT_S = 1.0
"""The retry time that the stream itself requests."""
_AT_ONCE = 50
_PATIENCE_S = 120.0


class Follower:
    """What one client has received of its job's stream; `checksum` is over the frames, however they were split."""

    def __init__(self, job_id: str, head: int) -> None:
        self.job_id, self.head = job_id, head
        self.newest = self.checksum = self.missing = self.doubled = self.drops = 0
        self.caught_up, self.ended = asyncio.Event(), asyncio.Event()
        self.arrivals: list[tuple[int, int, float]] = []
        """(first number, last number, moment)."""
        self.told_at: dict[int, float] | None = None
        """The time at which the writer had each record, by its number; read by one follower per job, as all get the same."""
        self.cut_at = self.back_at = float("inf")

    def take(self, blocks: list[bytes], now: float) -> None:
        first = self.newest + 1
        for block in blocks:
            if block.startswith(b"id: "):
                self._take(block)
            elif block == b"data: [DONE]":
                self.ended.set()
        if self.newest >= first:
            self.arrivals.append((first, self.newest, now))
        if self.newest >= self.head:
            self.caught_up.set()

    def _take(self, block: bytes) -> None:
        number = int(block[4 : block.index(b"\n")])
        if number <= self.newest:
            self.doubled += 1
            return
        self.missing += number - self.newest - 1
        self.newest = number
        self.checksum = zlib.crc32(block, self.checksum)
        if self.told_at is not None:
            self.told_at[number] = orjson.loads(block[block.index(b"data: ") + 6 :])["time"]

    def delays_s(self, told_at: dict[int, float], since: float) -> Iterator[float]:
        """Return the delays of every record from `since` on, except those sent while it was disconnected."""
        for first, last, now in self.arrivals:
            for number in range(first, last + 1):
                if told_at[number] >= since and (now < self.cut_at or told_at[number] > self.back_at):
                    yield now - told_at[number]


class Connection(asyncio.Protocol):
    """One connection of a follower: HTTP/1.1 with a chunked body, parsed as it arrives."""

    def __init__(self, follower: Follower, crowd: "Crowd") -> None:
        self.follower, self.crowd = follower, crowd
        self.transport: Any = None
        self._received, self._text = bytearray(), bytearray()
        self._is_body = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        lines = [
            f"GET /v1/jobs/{self.follower.job_id}/stream HTTP/1.1", "host: localhost",
            f"authorization: Bearer {self.crowd.key}", f"last-event-id: {self.follower.newest}", "", "",
        ]  # fmt: skip
        transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self._received += data
        if not self._is_body:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 200 "), bytes(head)
            self._is_body, self._received = True, rest
        self._unchunk()
        blocks = self._text.split(b"\n\n")
        self._text = blocks.pop()
        self.follower.take([bytes(block) for block in blocks], now)

    def _unchunk(self) -> None:
        while (end := self._received.find(b"\r\n")) > 0:
            stop = end + 2 + int(self._received[:end], 16)
            if len(self._received) < stop + 2:
                return
            self._text += self._received[end + 2 : stop]
            del self._received[: stop + 2]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        if not self.follower.ended.is_set():
            self.follower.drops += self.follower.cut_at > time.time()
            asyncio.get_running_loop().call_later(_RECONNECT_S, self.crowd.come_back, self.follower)


class Crowd:
    """All followers of this process."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.followers: list[Follower] = []
        self._connections: dict[Follower, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._since = 0.0

    async def connect(self, follower: Follower) -> None:
        make = asyncio.get_running_loop().create_connection
        _, self._connections[follower] = await make(lambda: Connection(follower, self), "127.0.0.1", self.port)

    def come_back(self, follower: Follower) -> None:
        follower.back_at = time.time()
        task = asyncio.get_running_loop().create_task(self.connect(follower))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def follow(self, clients: str, heads: str) -> dict[str, Any]:
        jobs = list(json.loads(heads).items())
        self.followers = [Follower(*jobs[number % len(jobs)]) for number in range(int(clients))]
        for follower in self.followers[: len(jobs)]:
            follower.told_at = {}
        turns = asyncio.Semaphore(_AT_ONCE)

        async def begin(follower: Follower) -> None:
            async with turns:
                await self.connect(follower)
                await follower.caught_up.wait()

        begun = time.time()
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(*map(begin, self.followers))
        self._since = time.time()
        return {"connected_s": self._since - begun}

    async def cut(self, share: str, seconds: str) -> dict[str, Any]:
        loop, rng = asyncio.get_running_loop(), random.Random(1)
        chosen = rng.sample(self.followers, round(float(share) * len(self.followers)))
        for follower in chosen:
            loop.call_later(rng.uniform(0.2, 0.7) * float(seconds), self._cut, follower)
        return {"cut": len(chosen)}

    def _cut(self, follower: Follower) -> None:
        follower.cut_at = time.time()
        self._connections[follower].transport.abort()

    async def finish(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.gather(*(follower.ended.wait() for follower in self.followers))
        except TimeoutError:
            pass  # how many had their end is told below
        told_at = {one.job_id: one.told_at for one in self.followers if one.told_at is not None}
        delays = sorted(d for one in self.followers for d in one.delays_s(told_at[one.job_id], self._since))
        outcomes = Counter((one.job_id, one.newest, one.checksum) for one in self.followers)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "ended": sum(one.ended.is_set() for one in self.followers),
            "missing": sum(one.missing for one in self.followers),
            "doubled": sum(one.doubled for one in self.followers),
            "dropped": sum(one.drops for one in self.followers),
            "outcomes": [[*outcome, count] for outcome, count in outcomes.items()],
            "delivered": len(delays),
            "delay_s": {"p50": _share(delays, 0.5), "p99": _share(delays, 0.99), "max": _share(delays, 1.0)},
            "cpu_s": spent.ru_utime + spent.ru_stime,
        }


def _share(delays: list[float], share: float) -> float | None:
    return delays[min(len(delays) - 1, int(share * len(delays)))] if delays else None


async def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    crowd = Crowd(int(sys.argv[1]), sys.argv[2])
    commands: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "follow": crowd.follow, "cut": crowd.cut, "finish": crowd.finish,
    }  # fmt: skip
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = line.split()
        print(json.dumps(await commands[name](*arguments)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
