"""Rules for webhook receivers: no address of the operator's own network may be reached unless it is listed."""

import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAX_URL = 2048
_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[!-~]+")
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_UNICAST = ip_network("2000::/3")
"""The globally routed addresses of IPv6. Mapped, translated and local addresses lie outside of it."""
_NOT_PUBLIC = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)
"""Networks that some version of ipaddress takes for global: relays and tunnels to any IPv4 address, and examples."""


class Refused(ValueError):
    """A receiver that must not be reached, with the reason as its message."""


class Target(NamedTuple):
    """A receiver's URL in its parts, so that it is parsed only once and in one way."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class Receivers(NamedTuple):
    """The operator's rules: networks that may be reached though they are not public, and ports of public addresses."""

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({80, 443, 8080, 8443})

    def read(self, url: str) -> Target:
        """Parse the URL of a receiver. A host name is looked up only when something is sent.

        Raises:
            Refused: the URL is malformed, or its address or port is not allowed.
        """
        target = _parts(url)
        numeric = _numeric(target.host)
        if numeric is not None:
            self.require(numeric, target.port)
        elif not self.networks:
            self._require_port(target.port)
        return target

    def require(self, address: Address, port: int) -> None:
        """Check that this address may be connected to.

        Raises:
            Refused: it may not.
        """
        if any(address in network for network in self.networks):
            return
        if not _is_public(address):
            raise Refused("its address is not a public one")
        self._require_port(port)

    def _require_port(self, port: int) -> None:
        if port not in self.ports:
            raise Refused(f"port {port} is not one of {', '.join(map(str, sorted(self.ports)))}")


def read_networks(text: str) -> tuple[Network, ...]:
    """Parse a list such as `10.1.0.0/16, fd00::/8`; raises ValueError for anything that is not a network."""
    return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())


def _parts(url: str) -> Target:
    if not _PRINTABLE.fullmatch(url) or "\\" in url or len(url) > _MAX_URL:
        raise Refused(f"a URL has at most {_MAX_URL:,} characters, all of them printable ASCII and none a backslash")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise Refused(str(error)) from error
    if split.scheme not in _PORTS:
        raise Refused("it begins with https:// or http://")
    if "@" in split.netloc:
        raise Refused("a URL with a user name or password in it is not taken")
    if split.fragment:
        raise Refused("what follows a # would not be sent")
    host = split.hostname or ""
    if ":" in host or "[" in split.netloc:
        _require_version_6(host)
    elif not _HOST_NAME.fullmatch(host):
        raise Refused("it names no host")
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return Target(split.scheme, host, _PORTS[split.scheme] if port is None else port, path)


def _require_version_6(host: str) -> None:
    try:
        IPv6Address(host)
    except ValueError as error:
        raise Refused("what stands in brackets is no IPv6 address") from error
    if "%" in host:
        raise Refused("an address with a zone is of this machine's own network")


def _numeric(host: str) -> Address | None:
    """Return the address of a numeric host in any notation that the system reads, such as 0x7f.1 and 2130706433."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return ip_address(found[0][4][0])


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
