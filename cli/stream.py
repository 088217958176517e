"""Server-sent events; the stream of a job resumes after an interruption, with nothing lost or repeated."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import httpx

from cli.client import Client, refusal, unreachable
from cli.errors import CommandError
from cli.output import say

_TIMEOUT = httpx.Timeout(connect=5, read=60, write=5, pool=5)
"""The service sends a heartbeat every 15 s; a connection silent for a minute is considered dead."""
_GIVE_UP_S = 60.0
_RETRY_S = 1.0
_COMES_BACK = {429, 502, 503, 504}
"""Statuses, from the service or a proxy, that will pass: it is restarting, or gets too many requests."""


def follow_stream(client: Client, job_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Yield every event and metric of a job in order, from the first, until the job ends.

    Raises:
        CommandError: the service stayed unreachable for a minute, or refused.
    """
    cursor = after
    patience = Patience(client)
    while True:
        try:
            address, place = f"jobs/{job_id}/stream", {"after": cursor}
            # `restore` is called on the response, not on a record: a waiting job may send no record for hours.
            for record in records(client, "GET", address, patience.restore, params=place, timeout=_TIMEOUT):
                cursor = record["seq"]
                yield record
        except httpx.HTTPError as error:
            time.sleep(patience.pause_s(error))
        else:
            return


class Patience:
    """Retry policy for a service that is away for a while, such as during a restart."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lost_since: float | None = None

    def restore(self) -> None:
        """Note that the service has answered."""
        self.lost_since = None

    def pause_s(self, error: httpx.HTTPError) -> float:
        """Return how long to wait before the next request.

        Raises:
            CommandError: the service refused, or would have been away for over a minute by then.
        """
        response = error.response if isinstance(error, httpx.HTTPStatusError) else None
        if response is not None and response.status_code not in _COMES_BACK:
            raise failure(self.client, error)
        now = time.monotonic()
        if self.lost_since is None:
            self.lost_since = now
            reason = error if response is None else f"it answers {response.status_code}"
            say(f"  lost the connection to the service ({reason}); trying again")
        asked_for = "" if response is None else response.headers.get("retry-after", "")
        wait_s = max(_RETRY_S, float(asked_for)) if asked_for.isdecimal() else _RETRY_S
        if now + wait_s - self.lost_since > _GIVE_UP_S:
            raise failure(self.client, error)
        return wait_s


def failure(client: Client, error: httpx.HTTPError) -> CommandError:
    """Turn an error of httpx into a CommandError, with the service's own message if it has refused."""
    return refusal(error.response) if isinstance(error, httpx.HTTPStatusError) else unreachable(client.url, error)


def asked(client: Client, address: str) -> dict[str, Any]:
    """Return the JSON at an address, leaving errors to a caller that retries.

    Raises:
        CommandError: another server answers.
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
    """Yield the records of one connection up to the end of the stream; `answered` is called once it is accepted.

    Raises:
        httpx.HTTPStatusError: the service refused; its answer has been read.
        httpx.TransportError: the connection was lost before the end.
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
    """Yield complete lines as they arrive, split at newlines only; httpx would also split at Unicode line ends in JSON."""
    left = b""
    for chunk in response.iter_bytes():
        *whole, left = (left + chunk).split(b"\n")
        yield from (line.decode() for line in whole)
