"""A chat in a terminal, and answers that break off: the command against a service that says what the test wants."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.e2e.service import ROOT, run_trainyard

WEIGHTS = {"id": "artifact-1", "reference": "tiny/1", "digest": "d" * 64, "base": None}
DONE = b"data: [DONE]\n\n"


def piece(text: str) -> bytes:
    told = {"weights": WEIGHTS, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: %b\n\n" % json.dumps(told).encode()


class Scripted(ThreadingHTTPServer):
    """Answers one question after the other from a script; an answer without an end is held until the client leaves."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.script: list[list[bytes | None]] = []
        self.asked: list[dict[str, Any]] = []


class Answers(BaseHTTPRequestHandler):
    server: Scripted

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()
        for part in self.server.script.pop(0):
            if part is None:
                self.rfile.read(1)
            else:
                self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.screen, inside = pty.openpty()
        command = [sys.executable, "-m", "cli.main", "chat", *arguments]
        self.process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, cwd=ROOT)
        os.close(inside)
        self.unread = ""

    def read_until(self, wanted: str) -> str:
        """What is written up to there; the test's time limit is the only one."""
        while wanted not in self.unread:
            self.unread += os.read(self.screen, 4096).decode()
        seen, _, self.unread = self.unread.partition(wanted)
        return seen + wanted

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with Scripted() as server:
        monkeypatch.setenv("TRAINYARD_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("TRAINYARD_API_KEY", "ty-key")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def terminal(service: Scripted) -> Iterator[Terminal]:
    running = Terminal("tiny", "--seed", "7")
    running.read_until("> ")
    yield running
    running.close()


@pytest.mark.parametrize("end", ["\n", "\x04"])
def test_a_conversation_goes_on_from_its_answers_until_an_empty_line_or_ctrl_d(
    service: Scripted, terminal: Terminal, end: str
) -> None:
    service.script = [[piece(""), piece("fine"), DONE], [piece("yes"), DONE]]
    terminal.type("how are you?\n")
    assert "tiny/1" in terminal.read_until("fine")
    terminal.read_until("> ")
    terminal.type("really?\n")
    terminal.read_until("yes")
    terminal.read_until("> ")
    terminal.type(end)
    assert terminal.process.wait() == 0
    first, second = service.asked
    assert (first["model"], second["model"], second["seed"]) == ("tiny", WEIGHTS["id"], 7)
    assert [message["content"] for message in second["messages"]] == ["how are you?", "fine", "really?"]


def test_ctrl_c_stops_an_answer_which_then_was_never_given(service: Scripted, terminal: Terminal) -> None:
    service.script = [[piece("well"), None], [piece("yes"), DONE]]
    terminal.type("how are you?\n")
    terminal.read_until("well")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("stopped")
    terminal.read_until("> ")
    terminal.type("really?\n")
    terminal.read_until("yes")
    assert [message["content"] for message in service.asked[1]["messages"]] == ["really?"]


def test_the_stream_of_an_answer_is_told_as_it_came(service: Scripted) -> None:
    service.script = [[piece("we"), piece("ll"), DONE]]
    told = run_trainyard(dict(os.environ), "chat", "tiny", "how are you?", "--jsonl").stdout
    assert [json.loads(line)["choices"][0]["delta"]["content"] for line in told.splitlines()] == ["we", "ll"]


def test_control_characters_of_an_answer_do_nothing_to_the_terminal(service: Scripted, terminal: Terminal) -> None:
    service.script = [[piece("a\x1b]0;owned\x07b"), DONE]]
    terminal.type("how are you?\n")
    assert "a\ufffd]0;owned\ufffdb" in terminal.read_until("b\r\n")


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        (b"", 69, "the stream was closed"),
        (b'data: {"error": {"message": "the engine ended"}}\n\n' + DONE, 1, "broke off: the engine ended"),
    ],
)
def test_an_answer_that_breaks_off_is_no_success(service: Scripted, end: bytes, code: int, told: str) -> None:
    service.script = [[piece("well"), end]]
    done = run_trainyard(dict(os.environ), "chat", "tiny", "how are you?")
    assert (done.returncode, done.stdout) == (code, "well")
    assert told in done.stderr
