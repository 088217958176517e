"""HTTP as uvicorn has it, but for two things: the answer to what is no HTTP, and files that go out without a copy."""

import asyncio
import os
import secrets
import select
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias, cast

from anyio import CapacityLimiter, to_thread
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.errors import ApiError, error_response

SEND_FILE = "trainyard.send_file"
"""Where a request's scope holds a SendFile, if its connection can do that."""
SendFile: TypeAlias = Callable[[int, range], Awaitable[None]]
"""Sends these bytes of an open file as part of the body, after `http.response.start`."""
_AT_ONCE_BYTES = 64 << 20
_ROOM_MS = 5
"""A client that reads as fast as we send makes room sooner than the event loop would tell; others are waited for there."""
_TURN_S = 0.05
"""A thread is given to the next download then, however quick this one's client is."""
_SENDERS = CapacityLimiter(16)
"""However many download, the threads of everything else are left to it."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _writable: asyncio.Future[None] | None = None

    def send_400_response(self, msg: str) -> None:
        """The envelope and an id here too: no application sees a request that cannot be parsed."""
        request_id = f"req-{secrets.token_hex(12)}"
        headers = {"x-request-id": request_id, "x-content-type-options": "nosniff", "connection": "close"}
        message = f"the request is not HTTP/1.1: {msg}"
        answer = error_response(ApiError(400, "not_http", message, headers=headers))
        lines = [b"%b: %b\r\n" % header for header in answer.raw_headers]
        self.transport.write(b"".join([b"HTTP/1.1 400 Bad Request\r\n", *lines, b"\r\n", bytes(answer.body)]))
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.scheme == "http":  # the kernel cannot encrypt what it sends by itself
            cast("dict[str, Any]", cycle.scope)[SEND_FILE] = partial(self._send_file, cycle)
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._go_on()

    async def _send_file(self, cycle: RequestResponseCycle, file: int, span: range) -> None:
        """By sendfile(2), for neither uvicorn nor uvloop has it. A client that leaves ends it without an error."""
        assert len(span) <= cycle.expected_content_length, "the headers announce the body's length"
        cycle.expected_content_length -= len(span)
        if not await self._written(cycle):
            return
        connection = os.dup(self.transport.get_extra_info("socket").fileno())  # uvloop watches its own for itself alone
        source, turn = os.dup(file), None
        try:
            start = span.start
            while start < span.stop and not self._is_gone(cycle):
                pushing = to_thread.run_sync(_push, connection, source, start, span.stop, limiter=_SENDERS)
                turn = asyncio.ensure_future(pushing)
                sent = await asyncio.shield(turn)
                if sent == start and not self._is_gone(cycle):  # who left meanwhile has nothing more to wake it
                    await self._wait_writable(connection)
                start = sent
        except ConnectionError:
            self.transport.abort()
        finally:
            _close_after(turn, connection, source)

    async def _written(self, cycle: RequestResponseCycle) -> bool:
        """Whether all that was written before is with the kernel now; else the client is gone."""
        if self._is_gone(cycle):
            return False
        self.transport.set_write_buffer_limits(0)
        await self.flow.drain()
        if self._is_gone(cycle):
            return False
        self.transport.set_write_buffer_limits()
        return True

    def _is_gone(self, cycle: RequestResponseCycle) -> bool:
        return cycle.disconnected or self.transport.is_closing()

    async def _wait_writable(self, connection: int) -> None:
        self._writable = self.loop.create_future()
        self.loop.add_writer(connection, self._go_on)
        try:
            await self._writable
        finally:
            self.loop.remove_writer(connection)
            self._writable = None

    def _go_on(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


def _close_after(turn: asyncio.Future[int] | None, *descriptors: int) -> None:
    """A thread may still be at work with them, where the request was cancelled."""

    def close(_: object = None) -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    if turn is None or turn.done():
        close()
    else:
        turn.add_done_callback(close)


def _push(connection: int, file: int, start: int, stop: int) -> int:
    """Hand bytes of a file to the kernel for as long as it takes them; where it stopped.

    In a thread: what is not in memory is read from the disk meanwhile.
    """
    stop, until = min(stop, start + _AT_ONCE_BYTES), time.monotonic() + _TURN_S
    ready = select.poll()
    ready.register(connection, select.POLLOUT)
    while start < stop and time.monotonic() < until:
        try:
            sent = os.sendfile(connection, file, start, stop - start)
        except BlockingIOError:
            if not ready.poll(_ROOM_MS):
                break
            continue
        if not sent:
            raise OSError(f"the file ends {stop - start} bytes early")
        start += sent
    return start
