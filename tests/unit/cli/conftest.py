"""Commands without a service: what would be one is a function."""

from collections.abc import Callable

import httpx
import pytest

Answer = Callable[[httpx.Request], httpx.Response]
Serve = Callable[[Answer], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Have a function answer each request of the commands."""
    real = httpx.Client

    def answered_by(answer: Answer) -> None:
        monkeypatch.setenv("TRAINYARD_URL", "http://service")
        monkeypatch.setenv("TRAINYARD_API_KEY", "ty-key")
        monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=httpx.MockTransport(answer), **options))

    return answered_by
