"""Sending to a receiver that somebody named: to the address that was checked, once, and nowhere that it points to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import NamedTuple

import httpx

from db.receivers import Address, Receivers, Refused, Target

_ANSWER_S = 15.0
_CONNECT_S = 5.0

Resolve = Callable[[str, int], Awaitable[list[Address]]]


class Outcome(NamedTuple):
    """How it went: the status, and what is wrong unless it was taken."""

    status_code: int | None = None
    error: str | None = None


async def look_up(host: str, port: int) -> list[Address]:
    """The addresses of a host; raises OSError or UnicodeError when it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # An address with a zone is link-local, and the zone is not part of what is checked.
    return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


class Sender:
    """Posts JSON. Neither proxies nor netrc nor cookies of this machine have a part in it."""

    def __init__(self, receivers: Receivers, resolve: Resolve = look_up) -> None:
        self._receivers = receivers
        self._resolve = resolve
        # Of connections none is kept: one to an address would be taken for another host's there.
        self._client = httpx.AsyncClient(
            verify=httpx.create_ssl_context(),  # a file of the operator's own authorities: SSL_CERT_FILE
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "Trainyard-Webhooks/1", "Accept": "*/*"},
        )

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Outcome:
        """Send it; the answer's head is read, and nothing of its body."""
        try:
            target = self._receivers.read(url)
            address = await self._admitted(target)
            async with asyncio.timeout(_ANSWER_S):
                return await self._post(target, address, body, headers)
        except Refused as error:
            return Outcome(error=f"{url} is not sent to: {error}")
        except TimeoutError:
            return Outcome(error=f"no answer within {_ANSWER_S:g} s")
        except httpx.TimeoutException as error:
            return Outcome(error=f"no answer in time ({type(error).__name__})")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            return Outcome(error=f"it cannot be reached: {str(error) or type(error).__name__}")

    async def close(self) -> None:
        await self._client.aclose()

    async def _admitted(self, target: Target) -> Address:
        """The one address that is connected to: the host is looked up here and not again, and all it has are checked.

        Raises:
            Refused: one of them may not be reached, or there is none.
        """
        try:
            found = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise Refused(f"the host {target.host} is not known") from error
        for address in found:
            self._receivers.require(address, target.port)
        if not found:
            raise Refused(f"the host {target.host} has no address")
        return found[0]

    async def _post(self, target: Target, address: Address, body: bytes, headers: dict[str, str]) -> Outcome:
        place = f"[{address}]" if address.version == 6 else str(address)
        url = f"{target.scheme}://{place}:{target.port}{target.path}"
        told = headers | {"Host": target.origin, "Content-Type": "application/json"}
        # The certificate has to be that of the name, not of the address.
        extensions = {"sni_hostname": target.host} if target.scheme == "https" else {}
        async with self._client.stream("POST", url, content=body, headers=told, extensions=extensions) as answer:
            status = answer.status_code
        if 300 <= status < 400:
            return Outcome(status, "it redirects, and no redirect is followed")
        return Outcome(status, None if 200 <= status < 300 else f"it answered {status}")
