"""`python -m api`: the API process."""

import logging
import os
import resource
import socket

import uvicorn

from api.protocol import Protocol
from api.settings import ApiSettings
from api.stream.feed import Feed
from db import logs, traces
from db.settings import StorageSettings
from engine import gc_pause

DRAIN_S = 10
"""The time that responses under way have to finish when the API shuts down."""


class Server(uvicorn.Server):
    """A server that ends live streams on shutdown, so that it need not wait for them."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._feed.close()
        await super().shutdown(sockets)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    with gc_pause.paused():
        from api.app import create_app

    _allow_connections()
    logs.begin()
    traces.begin("api")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # every request of /readyz would log a line
    settings = ApiSettings()
    app = create_app(settings, StorageSettings())
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Protocol,
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_S,
    )
    Server(config, app.state.service.feed).run()
    traces.end()


def _allow_connections() -> None:
    """Raise the soft limit of open files to the hard one: each stream needs one, and shells often allow only 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    os.umask(0o077)
    main()
