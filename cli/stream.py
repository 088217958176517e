"""Server-sent events; those of a job are taken up again where they were cut, none lost and none twice."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import httpx

from cli.client import Client, refusal, unreachable
from cli.errors import CommandError
from cli.output import say

_TIMEOUT = httpx.Timeout(connect=5, read=60, write=5, pool=5)
"""The service sends a heartbeat every 15 s; after a minute without one the connection is taken for dead."""
_GIVE_UP_S = 60.0
_RETRY_S = 1.0
_COMES_BACK = {429, 502, 503, 504}
"""What a service answers, or who stands before it, that cannot answer now: it restarts, or is asked too often."""


def follow_stream(client: Client, job_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Every event and metric of a job in order, from its first on, until the job ends.

    Raises:
        CommandError: the service stayed unreachable for a minute, or refused.
    """
    cursor = after
    patience = Patience(client)
    while True:
        try:
            address, place = f"jobs/{job_id}/stream", {"after": cursor}
            # At the answer and not at a record: a job that waits for a worker sends none for hours.
            for record in records(client, "GET", address, patience.restore, params=place, timeout=_TIMEOUT):
                cursor = record["seq"]
                yield record
        except httpx.HTTPError as error:
            time.sleep(patience.pause_s(error))
        else:
            return


class Patience:
    """With a service that is away for a while: whoever follows a job for days meets a restart."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lost_since: float | None = None

    def restore(self) -> None:
        """It has answered."""
        self.lost_since = None

    def pause_s(self, error: httpx.HTTPError) -> float:
        """How long to wait before it is asked again.

        Raises:
            CommandError: it refused, or will have been away for over a minute.
        """
        response = error.response if isinstance(error, httpx.HTTPStatusError) else None
        if response is not None and response.status_code not in _COMES_BACK:
            raise failure(self.client, error)
        now = time.monotonic()
        if self.lost_since is None:
            self.lost_since = now
            told = error if response is None else f"it answers {response.status_code}"
            say(f"  out of touch with the service ({told}); trying again")
        asked_for = "" if response is None else response.headers.get("retry-after", "")
        wait_s = max(_RETRY_S, float(asked_for)) if asked_for.isdecimal() else _RETRY_S
        if now + wait_s - self.lost_since > _GIVE_UP_S:
            raise failure(self.client, error)
        return wait_s


def failure(client: Client, error: httpx.HTTPError) -> CommandError:
    """What is told of it: the service's own words where it has refused."""
    return refusal(error.response) if isinstance(error, httpx.HTTPStatusError) else unreachable(client.url, error)


def asked(client: Client, address: str) -> dict[str, Any]:
    """The JSON there, for who has patience with what goes wrong.

    Raises:
        CommandError: what answers is no Trainyard.
        httpx.HTTPError: the service refused, or did not answer.
    """
    response = client.http.get(address).raise_for_status()
    try:
        return response.json()
    except ValueError as error:
        raise refusal(response) from error


def records(
    client: Client, method: str, address: str, answered: Callable[[], None] = lambda: None, **arguments: Any
) -> Generator[dict[str, Any], None, None]:
    """The records of one connection, up to the end of the stream; `answered` is called once the service has let it in.

    Raises:
        httpx.HTTPStatusError: the service refused; its answer has been read.
        httpx.TransportError: the connection was cut before the end.
    """
    with client.http.stream(method, address, **arguments) as response:
        if not response.is_success:
            response.read()
        response.raise_for_status()
        answered()
        for line in lines_of(response):
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                return
            yield json.loads(data)
    raise httpx.ReadError("the stream was closed")


def lines_of(response: httpx.Response) -> Iterator[str]:
    """Whole lines as they come. httpx's own end wherever Unicode has a line end, which a text may hold within JSON."""
    left = b""
    for chunk in response.iter_bytes():
        *whole, left = (left + chunk).split(b"\n")
        yield from (line.decode() for line in whole)
