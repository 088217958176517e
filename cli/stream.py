"""A job's live stream: server-sent events, taken up again where they were cut, none lost and none twice."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from cli.client import Client, refusal, unreachable
from cli.output import say

_SILENCE_S = 60.0
"""The service sends a heartbeat every 15 s; after this long the connection is taken for dead."""
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
            for record in _records(client, job_id, cursor):
                if record is None:
                    return
                cursor = record["seq"]
                lost_since = None
                yield record
            error: Exception = RuntimeError("the stream was closed")
        except httpx.TransportError as transport:
            error = transport
        if lost_since is None:
            lost_since = time.monotonic()
            say(f"  stream cut ({error}); attaching again")
        if time.monotonic() - lost_since > _GIVE_UP_S:
            raise unreachable(client.url, error)
        time.sleep(_RETRY_S)


def _records(client: Client, job_id: str, after: int) -> Iterator[dict[str, Any] | None]:
    """The records of one connection; None stands for the end of the job."""
    timeout = httpx.Timeout(connect=5, read=_SILENCE_S, write=5, pool=5)
    address = f"jobs/{job_id}/stream"
    with client.http.stream("GET", address, params={"after": after}, timeout=timeout) as response:
        if response.is_error:
            response.read()
            raise refusal(response)
        for line in response.iter_lines():
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                yield None
                return
            yield json.loads(data)
