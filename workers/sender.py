"""Sending to a receiver that a user named: one request to the address that was checked, following no redirect."""

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
    """The result of a request: its status, and an error unless the receiver accepted it."""

    status_code: int | None = None
    error: str | None = None


async def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses of a host. Raises OSError or UnicodeError when it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # An address with a zone is link-local; the zone is not part of the check.
    return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


class Sender:
    """Posts JSON. Proxies, netrc and cookies of this machine are ignored."""

    def __init__(self, receivers: Receivers, resolve: Resolve = look_up) -> None:
        self._receivers = receivers
        self._resolve = resolve
        # No connection is kept: one to an address would be reused for another host at the same address.
        self._client = httpx.AsyncClient(
            verify=httpx.create_ssl_context(),  # a file of the operator's own authorities: SSL_CERT_FILE
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "Trainyard-Webhooks/1", "Accept": "*/*"},
        )

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Outcome:
        """Send the body, and read the head of the answer but not its body."""
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
        """Return the address to connect to. The host is looked up here only, and all of its addresses are checked.

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
        sent = headers | {"Host": target.origin, "Content-Type": "application/json"}
        # The certificate has to be that of the name, not of the address.
        extensions = {"sni_hostname": target.host} if target.scheme == "https" else {}
        async with self._client.stream("POST", url, content=body, headers=sent, extensions=extensions) as answer:
            status = answer.status_code
        if 300 <= status < 400:
            return Outcome(status, "it redirects, and no redirect is followed")
        return Outcome(status, None if 200 <= status < 300 else f"it answered {status}")
