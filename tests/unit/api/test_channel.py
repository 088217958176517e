"""The followers of one job share what is read for them, and none misses or is told twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest

from api.stream import channel as channels
from api.stream.channel import Channel
from api.stream.frames import Batch


class Told:
    """A job's numbers, and how often somebody looked at them."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.looks: list[int] = []
        self.fails = 0

    def after(self, number: int) -> Batch:
        found = [n for n in self.numbers if n > number]
        return Batch(b"".join(b"%d " % n for n in found), found[-1] if found else number, full=False, ended=False)

    def read(self, number: int) -> Batch:
        self.looks.append(number)
        if self.fails:
            self.fails -= 1
            raise OSError("the database is away")
        return self.after(number)

    def tell(self, channel: Channel, *numbers: int) -> None:
        known = self.numbers[-1] if self.numbers else 0
        self.numbers += numbers
        channel.publish((numbers[-1], "running"), self.after(known))


def run(test: Awaitable[None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(in_time())


async def begun(channel: Channel, after: int = 0) -> AsyncIterator[bytes]:
    """A follower that has been told how soon to come back."""
    follower = channel.follow(after)
    assert (await anext(follower)).startswith(b"retry: ")
    return follower


def test_followers_at_the_same_place_share_one_look() -> None:
    async def test() -> None:
        told = Told(1, 2)
        channel = Channel(told.read)
        followers = [await begun(channel) for _ in range(50)]
        assert await asyncio.gather(*map(anext, followers)) == [b"1 2 "] * 50
        assert told.looks == [0]

    run(test())


def test_who_has_everything_is_told_the_news_without_another_look() -> None:
    async def test() -> None:
        told = Told(1)
        channel = Channel(told.read)
        channel.publish((1, "running"), None)
        followers = [await begun(channel) for _ in range(50)]
        await asyncio.gather(*map(anext, followers))
        waiting = [asyncio.ensure_future(anext(follower)) for follower in followers]
        await asyncio.sleep(0.05)
        told.looks.clear()
        told.tell(channel, 2, 3)
        assert await asyncio.gather(*waiting) == [b"2 3 "] * 50
        assert told.looks == []

    run(test())


def test_news_that_come_while_a_slow_follower_is_sent_something_wait_for_it() -> None:
    async def test() -> None:
        told = Told(1)
        channel = Channel(told.read)
        channel.publish((1, "running"), None)
        follower = await begun(channel)
        assert await anext(follower) == b"1 "
        for number in (2, 3, 4):
            told.tell(channel, number)
        assert await anext(follower) == b"2 3 4 "

    run(test())


def test_who_leaves_takes_a_look_from_nobody() -> None:
    async def test() -> None:
        told = Told(1)
        channel = Channel(told.read)
        leaving, staying = [asyncio.ensure_future(anext(await begun(channel))) for _ in range(2)]
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == b"1 "

    run(test())


def test_a_look_that_failed_is_not_remembered() -> None:
    async def test() -> None:
        told = Told(1)
        told.fails = 1
        channel = Channel(told.read)
        with pytest.raises(OSError, match="away"):
            await anext(await begun(channel))
        assert await anext(await begun(channel)) == b"1 "

    run(test())


def test_a_silent_stream_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_PING_S", 0.0)

    async def test() -> None:
        channel = Channel(Told().read)
        waiting = asyncio.ensure_future(anext(await begun(channel)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        channel.keep_alive()
        assert await waiting == b": ping\n\n"

    run(test())
