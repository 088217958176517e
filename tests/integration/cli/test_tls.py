"""A service behind TLS, with a certificate that no public authority has signed."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.client import Client
from cli.errors import CommandError, Exit
from tests.integration.workers.test_sender import certified
from tests.receiver import receiving


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return certified("localhost", tmp_path)


@pytest.fixture
def client_of(certificate: Path) -> Iterator:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiving("127.0.0.1", context) as receiver:
        yield lambda: Client(f"https://localhost:{receiver.port}", "ty-key")


def test_a_private_authority_is_named_by_the_environment(
    client_of, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert client_of().request("GET", "jobs").status_code == 200


def test_a_certificate_that_is_not_trusted_is_told_with_what_mends_it(
    client_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(CommandError, match="is not trusted") as caught:
        client_of().request("GET", "jobs")
    assert caught.value.code is Exit.UNREACHABLE
    assert "SSL_CERT_FILE" in str(caught.value.mend)
