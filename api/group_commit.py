"""Group commit: entries that arrive at the same time share a transaction, and so one wait for the disk."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from anyio import to_thread

from db.errors import Unavailable
from db.session import Database, Session

_MOST = 64
_GATHER_S = 0.003
"""How long the next group gathers under load; a single entry never waits."""
In = TypeVar("In")
Out = TypeVar("Out")


class GroupWriter(Generic[In, Out]):
    """Writes entries of one kind in groups: while one group commits, the next one gathers.

    `write` gets the entries of a group and returns a result for each; an exception among the results is raised
    by the `put` of its entry. An exception that `write` itself raises rolls the group back, and each entry is then
    written alone. To be used from one event loop.
    """

    def __init__(self, database: Database, write: Callable[[Session, Sequence[In]], Sequence[Out | Exception]]) -> None:
        self._database = database
        self._write = write
        self._waiting: list[tuple[In, asyncio.Future[Out]]] = []
        self._draining: asyncio.Task[None] | None = None

    async def put(self, entry: In) -> Out:
        """Write an entry, and return its result once it is committed."""
        if not self._database.local:  # a database server groups commits by itself
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
        except Exception as error:  # noqa: BLE001 - the `put` of the entry raises it
            return [error] if len(entries) == 1 else [self._commit([entry])[0] for entry in entries]


def _settle(done: "asyncio.Future[Out]", result: Out | Exception) -> None:
    if done.cancelled():  # its client has disconnected
        return
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)


def _given(result: Out | Exception) -> Out:
    if isinstance(result, Exception):
        raise result
    return result
