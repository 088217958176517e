"""A real desk beside a live service, with a real engine behind it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from db.artifacts import FileEntry, publish_result
from db.models import Artifact
from tests import runs
from tests.integration.api.live import Live, claimed, settled, submitted, until
from workers.desk import Desk
from workers.settings import WorkerSettings
from workers.stage import store

_COLD_S = 120.0
"""On a busy machine an engine that starts takes its time."""


@contextlib.contextmanager
def at_the_desk(live: Live) -> Iterator[Desk]:
    """A desk that answers the service; its engine starts with the first question."""
    home = live.service.desk.socket.parent
    settings = WorkerSettings(home=home, database_url=live.database.url, low_space_bytes=0)
    desk = Desk(live.database, settings)
    running: dict[str, Any] = {}

    async def serve() -> None:
        running.update(loop=asyncio.get_running_loop(), ended=asyncio.Event())
        await desk.serve(running["ended"])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        until(settings.desk_socket.exists)
        live.mine.timeout = _COLD_S
        yield desk
    finally:
        running["loop"].call_soon_threadsafe(running["ended"].set)
        thread.join(20)


def publish(live: Live, folder: Path, name: str, kind: str = "model", base_id: str | None = None) -> Artifact:
    """The files of a folder as what a job of `mine` made."""
    job_id = submitted(live)
    fence = claimed(live, job_id)
    entries: list[FileEntry] = store(folder, live.service.blobs)
    with live.database.write() as session:
        artifact = publish_result(
            session, job_id, fence,
            kind=kind, layout=kind, name=name, step=1, files=entries, metrics={}, lineage={}, base_id=base_id,
        )  # fmt: skip
    assert artifact is not None
    settled(live, job_id, fence)
    return artifact


def tiny_base(live: Live, tmp_path: Path, name: str = "tiny") -> Artifact:
    return publish(live, runs.save_base(tmp_path / name), name)
