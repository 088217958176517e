"""Server-sent events; those of a job are taken up again where they were cut, none lost and none twice."""

import json
import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx

from cli.client import Client, refusal, unreachable
from cli.output import say

_TIMEOUT = httpx.Timeout(connect=5, read=60, write=5, pool=5)
"""The service sends a heartbeat every 15 s; after a minute without one the connection is taken for dead."""
_GIVE_UP_S = 60.0
_RETRY_S = 1.0


def follow_stream(client: Client, job_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Every event and metric of a job in order, from its first on, until the job ends.

    Raises:
        CommandError: the service stayed unreachable for a minute, or refused.
    """
    cursor = after
    lost_since: float | None = None
    while True:
        try:
            address = f"jobs/{job_id}/stream"
            for record in records(client, "GET", address, params={"after": cursor}, timeout=_TIMEOUT):
                cursor = record["seq"]
                lost_since = None
                yield record
        except httpx.TransportError as transport:
            error = transport
        else:
            return
        if lost_since is None:
            lost_since = time.monotonic()
            say(f"  stream cut ({error}); attaching again")
        if time.monotonic() - lost_since > _GIVE_UP_S:
            raise unreachable(client.url, error)
        time.sleep(_RETRY_S)


def records(client: Client, method: str, address: str, **arguments: Any) -> Generator[dict[str, Any], None, None]:
    """The records of one connection, up to the end of the stream.

    Raises:
        CommandError: the service refused.
        httpx.TransportError: the connection was cut before the end.
    """
    with client.http.stream(method, address, **arguments) as response:
        if response.is_error:
            response.read()
            raise refusal(response)
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
