"""uvicorn's HTTP/1.1 protocol with bounded heads, error envelopes for what is not HTTP, and files sent without a copy."""

import asyncio
import os
import secrets
import select
import time
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias, cast

from anyio import CapacityLimiter, to_thread
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.errors import ApiError, error_response

HEAD_BYTES = 64 << 10
"""The most that a head, from the request line to the last header, or the trailers of a body may have."""
HEAD_S = 30.0
"""How long a connection may take to send a head."""
SEND_FILE = "trainyard.send_file"
"""The key under which a request's scope has a SendFile, if its connection supports that."""
SendFile: TypeAlias = Callable[[int, range], Awaitable[None]]
"""Sends these bytes of an open file as part of the body, after `http.response.start`."""
_AT_ONCE_BYTES = 64 << 20
_ROOM_MS = 5
"""How long a thread waits for room in the socket: a fast client makes room before the event loop would notice."""
_TURN_S = 0.05
"""How long a thread serves one download before it serves the next."""
_SENDERS = CapacityLimiter(16)
"""Threads of their own, so that downloads leave all other threads to other routes."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _writable: asyncio.Future[None] | None = None
    _head_bytes = 0
    """The bytes received of an unfinished head or of unfinished trailers, all of which the parser holds."""
    _in_body = False
    """Whether the head of a request has ended, and its body has not."""
    _progress = 0
    """Counts heads, pieces of bodies and ends of messages."""
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head or trailers of more than HEAD_BYTES are refused, and so is a head that takes too long."""
        while data and not self.transport.is_closing():
            # Of a body nothing is held here, so it is not cut into pieces, which would copy it.
            most = len(data) if self._in_body else HEAD_BYTES - self._head_bytes
            piece, data = data[:most], data[most:]
            seen = self._progress
            super().data_received(piece)
            self._head_bytes = 0 if self._progress != seen else self._head_bytes + len(piece)
            if self._head_bytes >= HEAD_BYTES and not self.transport.is_closing():
                message = f"the request's headers, or its trailers, have more than {HEAD_BYTES:,} bytes"
                self._refuse(ApiError(431, "head_too_large", message))
        if self._head_bytes and not self._in_body:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._progress += 1
        self._in_body = True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress += 1
        self._in_body = False
        super().on_message_complete()

    def _await_head(self) -> None:
        """Close the connection unless a head ends in time."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # an earlier request is still being answered
        elif not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed in the envelope and with an id too, since no application sees it."""
        self._refuse(ApiError(400, "not_http", f"the request is not HTTP/1.1: {msg}"))

    def _refuse(self, error: ApiError) -> None:
        """Answer instead of the application, and close the connection."""
        answer = error_response(error)
        answer.headers["x-request-id"] = f"req-{secrets.token_hex(12)}"
        answer.headers["x-content-type-options"] = "nosniff"
        answer.headers["connection"] = "close"
        lines = [b"%b: %b\r\n" % header for header in answer.raw_headers]
        status = HTTPStatus(error.status_code)
        first = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.transport.write(b"".join([first, *lines, b"\r\n", bytes(answer.body)]))
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.scheme == "http":  # the kernel cannot encrypt what it sends by itself
            cast("dict[str, Any]", cycle.scope)[SEND_FILE] = partial(self._send_file, cycle)
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._go_on()

    async def _send_file(self, cycle: RequestResponseCycle, file: int, span: range) -> None:
        """Send bytes with sendfile(2), which neither uvicorn nor uvloop offers. A disconnect ends it without an error."""
        assert len(span) <= cycle.expected_content_length, "the headers announce the body's length"
        cycle.expected_content_length -= len(span)
        if not await self._written(cycle):
            return
        # A duplicate, since uvloop does not share its own descriptor.
        connection = os.dup(self.transport.get_extra_info("socket").fileno())
        source, turn = os.dup(file), None
        try:
            start = span.start
            while start < span.stop and not self._is_gone(cycle):
                pushing = to_thread.run_sync(_push, connection, source, start, span.stop, limiter=_SENDERS)
                turn = asyncio.ensure_future(pushing)
                sent = await asyncio.shield(turn)
                if sent == start and not self._is_gone(cycle):  # a client that has left would never wake it
                    await self._wait_writable(connection)
                start = sent
        except ConnectionError:
            self.transport.abort()
        finally:
            _close_after(turn, connection, source)

    async def _written(self, cycle: RequestResponseCycle) -> bool:
        """Wait until all earlier output is with the kernel. Returns False when the client has disconnected."""
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
    """Close descriptors once no thread uses them any longer: one may be at work after the request was cancelled."""

    def close(_: object = None) -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    if turn is None or turn.done():
        close()
    else:
        turn.add_done_callback(close)


def _push(connection: int, file: int, start: int, stop: int) -> int:
    """Hand bytes of a file to the kernel while it accepts them, and return where that ended.

    Runs in a thread, since it may wait for the disk.
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
