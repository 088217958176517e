"""Group commit: what is written at the same time shares a transaction, and its one wait for the disk."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from anyio import to_thread

from db.errors import Unavailable
from db.session import Database, Session

_MOST = 64
_GATHER_S = 0.003
"""Under load the next group gathers for so long; who comes alone never waits."""
In = TypeVar("In")
Out = TypeVar("Out")


class GroupWriter(Generic[In, Out]):
    """Writes of one kind. While a group commits, what arrives gathers for the next one.

    `write` gets the entries of a group and gives as many results; an exception among them is raised
    to the one whose entry it was. One that it raises itself undoes the group, and each entry is then
    tried alone. To be used from one event loop.
    """

    def __init__(self, database: Database, write: Callable[[Session, Sequence[In]], Sequence[Out | Exception]]) -> None:
        self._database = database
        self._write = write
        self._waiting: list[tuple[In, asyncio.Future[Out]]] = []
        self._draining: asyncio.Task[None] | None = None

    async def put(self, entry: In) -> Out:
        """The entry's result, once it is committed."""
        if not self._database.local:  # a server groups commits itself, and writes of many at a time
            return _given(*await to_thread.run_sync(self._commit, [entry]))
        done: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                results = await to_thread.run_sync(self._commit, [entry for entry, _ in group])
                for (_, done), result in zip(group, results, strict=True):
                    _settle(done, result)
                if len(group) > 1:
                    await asyncio.sleep(_GATHER_S)
        finally:
            self._draining = None

    def _commit(self, entries: list[In]) -> Sequence[Out | Exception]:
        try:
            with self._database.write() as session:
                return self._write(session, entries)
        except Unavailable as error:
            return [error] * len(entries)
        except Exception as error:  # noqa: BLE001 - it is raised to the one who waits
            return [error] if len(entries) == 1 else [self._commit([entry])[0] for entry in entries]


def _settle(done: "asyncio.Future[Out]", result: Out | Exception) -> None:
    if done.cancelled():  # its client is gone
        return
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)


def _given(result: Out | Exception) -> Out:
    if isinstance(result, Exception):
        raise result
    return result
