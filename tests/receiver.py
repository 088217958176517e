"""A receiver of webhooks: a real HTTP server that keeps what comes, and answers as it is told."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """`answers` are the statuses of the next requests, then 200. `connections` counts those that only connect too."""

    url: str = ""
    port: int = 0
    answers: list[int] = field(default_factory=list)
    location: str = ""
    pause_s: float = 0.0
    connections: int = 0
    taken: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def wait(self, count: int, seconds: float = 10.0) -> list[tuple[str, dict[str, str], bytes]]:
        until = time.monotonic() + seconds
        while len(self.taken) < count:
            assert time.monotonic() < until, f"{len(self.taken)} of {count} came"
            time.sleep(0.02)
        return self.taken


@contextlib.contextmanager
def receiving(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """With host "::" it listens at every address of this machine, of both versions."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            receiver.taken.append((self.path, dict(self.headers.items()), body))
            time.sleep(receiver.pause_s)
            self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
            if receiver.location:
                self.send_header("location", receiver.location)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_CONNECT = do_POST  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        request_queue_size = 128

        def verify_request(self, *_: object) -> bool:
            receiver.connections += 1
            return True

        def handle_error(self, *_: object) -> None:
            pass  # a client that goes away before it has its answer

    with Server((host, 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        receiver.port = server.server_address[1]
        receiver.url = f"http://{host}:{receiver.port}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
