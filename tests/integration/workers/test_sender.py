"""Nothing inside is reached by a webhook, however its URL is written: a canary listens at every address of this machine."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from db.receivers import Address, Receivers, read_networks
from tests.receiver import Receiver, receiving
from workers.sender import Outcome, Sender, look_up

HOSTILE = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0x0.0x0.0x1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://127.127.127.127:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001::7f00:1]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fd00::1]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://[::ffff:0:127.0.0.1]:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.com/",
    "http://example.com:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@example.com",
    "http://127.0.0.1:{port}\\@example.com/",
    "http:\\\\127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http:127.0.0.1:{port}",
    "http://127.0.0.1%00.example.com:{port}/",
    "http://127.0.0.1%2f:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://①②⑦.0.0.1:{port}/",
    "http://127。0。0。1:{port}/",
    "http://ⓛocalhost:{port}/",
    "https://127.0.0.1:{port}/",
    "https://[::1]:{port}/",
    "//127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x",
    "file:///etc/passwd",
    "unix://127.0.0.1:{port}/",
    "http+unix://%2Ftmp%2Fs/",
    "data:text/plain,x",
    "http://169.254.169.254/latest/meta-data",
    "http://metadata.google.internal/",
    "http://[fd00:ec2::254]/latest/",
    "http://100.100.100.200/latest/",
    "http://192.168.0.1:{port}/",
    "http://10.0.0.1:{port}/",
    "http://172.16.0.1:{port}/",
    "http://100.64.0.1:{port}/",
    "http://224.0.0.1:{port}/",
    "http://255.255.255.255:{port}/",
    "http://192.0.2.1:{port}/",
    "http://198.18.0.1:{port}/",
    "http://{own}:{port}/",
    "http://private.test:{port}/",
    "http://both.test:{port}/",
    "http://mapped.test:{port}/",
    "http://metadata.test:{port}/",
    "http://nothing.test:{port}/",
]
NAMES: dict[str, list[str]] = {
    "private.test": ["10.0.0.1"],
    "both.test": ["93.184.216.34", "127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "metadata.google.internal": ["169.254.169.254"],
    "nothing.test": [],
    "example.com": ["127.0.0.1"],  # whoever takes a piece of a URL for its host reaches the canary
}


async def resolve(host: str, port: int) -> list[Address]:
    return [ip_address(one) for one in NAMES[host]] if host in NAMES else await look_up(host, port)


@pytest.fixture(scope="module")
def canary() -> Iterator[Receiver]:
    with receiving("::") as running:
        yield running


def sent(receivers: Receivers, url: str, resolve=resolve) -> Outcome:
    return all_sent(receivers, [url], resolve)[0]


def all_sent(receivers: Receivers, urls: list[str], resolve=resolve) -> list[Outcome]:
    async def send() -> list[Outcome]:
        sender = Sender(receivers, resolve)
        try:
            return [await sender.post(url, b"{}", {}) for url in urls]
        finally:
            await sender.close()

    return asyncio.run(send())


def open_to(canary: Receiver, networks: str = "") -> Receivers:
    """The canary's port is among those that are sent to, so that no port stops what its address should."""
    return Receivers(read_networks(networks), frozenset({80, 443, canary.port}))


def own_address() -> str:
    """That of this machine on its network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.3"
        return probe.getsockname()[0]


def test_the_canary_sees_what_reaches_it(canary: Receiver):
    before = canary.connections
    for url in (f"http://127.0.0.1:{canary.port}/", f"http://[::1]:{canary.port}/"):
        assert sent(open_to(canary, "127.0.0.0/8,::1/128"), url).status_code == 200
    assert canary.connections == before + 2


def test_no_hostile_url_makes_a_connection(canary: Receiver):
    assert len(HOSTILE) >= 70
    own = own_address()
    assert not IPv4Address(own).is_global
    before = canary.connections
    urls = [url.format(port=canary.port, own=own) for url in HOSTILE]
    outcomes = dict(zip(urls, all_sent(open_to(canary), urls), strict=True))
    assert [url for url, outcome in outcomes.items() if outcome.status_code or not outcome.error] == []
    assert [url for url, outcome in outcomes.items() if "is not sent to" not in str(outcome.error)] == []
    assert canary.connections == before


def test_a_name_is_looked_up_once_and_that_address_is_connected_to(canary: Receiver):
    answers = [[ip_address("127.0.0.2")], [ip_address("127.0.0.1")]]

    async def rebinding(_host: str, _port: int) -> list[Address]:
        return answers.pop(0)

    with receiving("127.0.0.2") as receiver:
        url = f"http://rebinding.test:{receiver.port}/x?y=1"
        assert sent(open_to(canary, "127.0.0.2/32"), url, rebinding).status_code == 200
        path, headers, _ = receiver.taken[0]
    assert (path, headers["Host"]) == ("/x?y=1", f"rebinding.test:{receiver.port}")
    assert len(answers) == 1


def test_a_name_that_turns_to_a_private_address_later_is_refused_then(canary: Receiver):
    answers = [[ip_address("127.0.0.2")], [ip_address("127.0.0.1")]]

    async def rebinding(_host: str, _port: int) -> list[Address]:
        return answers.pop(0)

    before = canary.connections
    with receiving("127.0.0.2") as receiver:
        url = f"http://rebinding.test:{receiver.port}/"
        assert sent(open_to(canary, "127.0.0.2/32"), url, rebinding).status_code == 200
        assert "not a public one" in str(sent(open_to(canary, "127.0.0.2/32"), url, rebinding).error)
    assert canary.connections == before


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(canary: Receiver, status: int):
    before = canary.connections
    with receiving("127.0.0.2") as receiver:
        receiver.answers, receiver.location = [status], f"http://127.0.0.1:{canary.port}/latest/meta-data"
        outcome = sent(open_to(canary, "127.0.0.2/32"), receiver.url)
    assert outcome == (status, "it redirects, and no redirect is followed")
    assert canary.connections == before


def test_a_proxy_of_the_environment_is_not_used(canary: Receiver, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{canary.port}")
    before = canary.connections
    with receiving("127.0.0.2") as receiver:
        assert sent(open_to(canary, "127.0.0.2/32"), receiver.url).status_code == 200
    assert canary.connections == before


@pytest.mark.parametrize("port", [22, 25, 6379, 11211])
def test_other_ports_of_public_addresses_are_refused(port: int):
    assert f"port {port} is not one of" in str(sent(Receivers(), f"http://93.184.216.34:{port}/").error)


def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.sender._ANSWER_S", 0.5)
    read: list[int] = []

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                read.append(65536)
        except ConnectionError:
            return
        finally:
            writer.close()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            return
        finally:
            writer.close()

    async def send(serve) -> Outcome:
        async with await asyncio.start_server(serve, "127.0.0.2") as server:
            url = f"http://127.0.0.2:{server.sockets[0].getsockname()[1]}/"
            return await Sender(Receivers(read_networks("127.0.0.2/32"))).post(url, b"{}", {})

    assert asyncio.run(send(endless)).status_code == 200
    assert sum(read) < 16 << 20
    assert asyncio.run(send(drip)).error == "no answer within 0.5 s"


@pytest.mark.parametrize(("host", "arrives"), [("hooks.test", True), ("other.test", False)])
def test_the_certificate_is_that_of_the_name(host: str, arrives: bool, tmp_path: Path, monkeypatch):
    certificate = certified("hooks.test", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def here(_host: str, _port: int) -> list[Address]:
        return [ip_address("127.0.0.2")]

    with receiving("127.0.0.2", context) as receiver:
        outcome = sent(Receivers(read_networks("127.0.0.2/32")), f"https://{host}:{receiver.port}/", here)
    assert (outcome.status_code == 200) is arrives
    assert bool(receiver.taken) is arrives


def certified(name: str, folder: Path) -> Path:
    """A key and a certificate of its own for that name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(encoding))
    return path
