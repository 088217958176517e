"""Load on an HTTP server from this process, and its cost to the server."""

import http.client
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks.harness.processes import cpu_s, wait_quiet

CONNECTIONS = 8


class Call(NamedTuple):
    """One request."""

    method: str
    path: str
    body: bytes | None = None


class Cost(NamedTuple):
    """Work done and its cost to the server; `units` are requests, or what a request carries."""

    units: int
    cpu_s: float
    wall_s: float

    @property
    def per_cpu_s(self) -> float:
        return self.units / self.cpu_s


def send(connection: http.client.HTTPConnection, call: Call, headers: Mapping[str, str]) -> bytes:
    """Send a request on a kept-alive connection and return the body of the response.

    Raises:
        RuntimeError: the answer is not 200 or 201.
    """
    connection.request(call.method, call.path, call.body, dict(headers))
    response = connection.getresponse()
    answer = response.read()
    if response.status not in (http.client.OK, http.client.CREATED):
        raise RuntimeError(f"{call.method} {call.path} answered {response.status}: {answer[:500]!r}")
    return answer


def drive(
    port: int, server_pids: Sequence[int], calls: Callable[[int], Call], headers: Mapping[str, str], seconds: float
) -> tuple[Cost, list[bytes]]:
    """Send calls(0), calls(1), ... over kept-alive connections for that long; return the cost and the answers.

    What the server still does after its last answer counts too.
    """
    numbers = iter(range(10**9))
    lock = threading.Lock()
    answers: list[bytes] = []
    wait_quiet(server_pids)
    cpu_before = cpu_s(server_pids)
    begun = time.perf_counter()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() - begun < seconds:
            with lock:
                call = calls(next(numbers))
            answers.append(send(connection, call, headers))
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for client_run in [pool.submit(client) for _ in range(CONNECTIONS)]:
            client_run.result()
    wall_s = time.perf_counter() - begun
    wait_quiet(server_pids)
    return Cost(len(answers), cpu_s(server_pids) - cpu_before, wall_s), answers
