"""A proxy on loopback that hands every request on and loses a share of the answers: the client sees a reset."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator


class Lossy:
    """One connection upstream for each of the client's; `lost` counts the answers that were dropped."""

    def __init__(self, port: int, share: float, seed: int) -> None:
        self._upstream = port
        self._share = share
        self._dice = random.Random(seed)
        self.lost = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request there, its answer back or not; the connection then ends."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # a client that gave up before it asked
            writer.close()
            return
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        back.write(head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1) + body)
        answer = await there.read()
        back.close()
        if self._dice.random() < self._share:
            self.lost += 1
            writer.transport.abort()
            return
        writer.write(answer)
        await writer.drain()
        writer.close()


@contextlib.contextmanager
def lossy(upstream: int, share: float, seed: int = 1) -> Iterator[tuple[str, Lossy]]:
    """The address of a proxy before that port of this machine."""
    loop = asyncio.new_event_loop()
    proxy = Lossy(upstream, share, seed)
    server = loop.run_until_complete(asyncio.start_server(proxy.carry, "127.0.0.1", 0, backlog=2048))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
