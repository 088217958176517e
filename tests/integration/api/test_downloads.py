"""Files on their way out of the kernel: to clients that read slowly, ask twice, or leave."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from api import protocol
from tests.integration.api.live import Live, until, upload

CONTENT = os.urandom(1 << 20) * 24
"""More than the buffers of a connection hold."""


@pytest.fixture
def path(live: Live) -> str:
    return f"/v1/files/{upload(live.mine, CONTENT, 'user_data', 'a.bin').json()['id']}/content"


@contextmanager
def asked(live: Live, path: str, times: int = 1, range_: str = "bytes=0-") -> Iterator[socket.socket]:
    """A connection with small buffers, over which the file has been asked for so many times at once."""
    request = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {live.mine.headers['authorization']}\r\nrange: {range_}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        connection.settimeout(20)
        host, port = live.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.sendall(request.encode() * times)
        yield connection


def body(connection: socket.socket, size_bytes: int) -> bytes:
    """The next answer's."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert f"content-length: {size_bytes}\r\n".encode() in head
    received = bytearray()
    while len(received) < size_bytes:
        piece = connection.recv(min(1 << 20, size_bytes - len(received)))
        assert piece, "the answer ends early"
        received += piece
    return bytes(received)


def is_sent(live: Live) -> bool:
    """Whether a stored file is open in this process, which is the server's too."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if link.readlink().is_relative_to(live.service.blobs.root):
                return True
    return False


def test_a_client_that_reads_late_gets_everything(live: Live, path: str):
    with asked(live, path) as connection:
        until(lambda: live.mine.get("/v1/files").is_success)  # others are answered meanwhile
        assert body(connection, len(CONTENT)) == CONTENT


def test_answers_to_requests_sent_at_once_come_one_after_the_other(live: Live, path: str):
    with asked(live, path, times=3, range_="bytes=5-4000004") as connection:
        assert [body(connection, 4_000_000) == CONTENT[5:4_000_005] for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("received_bytes", [0, 1_000_000])
def test_nothing_stays_open_of_a_client_that_leaves(live: Live, path: str, received_bytes: int):
    with asked(live, path) as connection:
        until(lambda: is_sent(live))
        if received_bytes:
            connection.recv(received_bytes, socket.MSG_WAITALL)
    until(lambda: not is_sent(live))


def test_nothing_stays_open_of_a_client_that_says_it_sends_no_more(live: Live, path: str):
    with asked(live, path) as connection:
        until(lambda: is_sent(live))
        connection.shutdown(socket.SHUT_WR)
        until(lambda: not is_sent(live))


def test_nothing_stays_open_of_a_client_that_says_so_while_a_thread_finds_no_room(live: Live, path: str, monkeypatch):
    push, is_full = protocol._push, threading.Event()

    def slowly(connection: int, file: int, start: int, stop: int) -> int:
        if (sent := push(connection, file, start, stop)) == start:
            is_full.set()
            time.sleep(0.5)
        return sent

    monkeypatch.setattr(protocol, "_push", slowly)
    with asked(live, path) as connection:
        assert is_full.wait(10)
        connection.shutdown(socket.SHUT_WR)
        until(lambda: not is_sent(live))


def test_an_empty_file_comes_down_empty(live: Live):
    file_id = upload(live.mine, b"", "user_data", "a.bin").json()["id"]
    assert live.mine.get(f"/v1/files/{file_id}/content").content == b""
