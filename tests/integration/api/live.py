"""A real server on loopback, over a real database, with two projects that know nothing of each other."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.deps import Service
from api.protocol import Protocol
from api.settings import ApiSettings
from db import artifacts, keys, leases, plans, projects
from db.artifacts import FileEntry
from db.models import Artifact
from db.session import Database
from db.settings import StorageSettings
from db.state import JobState

SECRET = b"a secret of tests"
BROKER_DOWN = "redis://127.0.0.1:1/0"
CHAT = b'{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}\n'

FORECAST = {
    "steps": 10,
    "tokens": 100,
    "trained_tokens": 50,
    "exact": True,
    "ranks": 1,
    "packing_efficiency": 0.9,
    "files": [],
    "validation_rows": 0,
    "parameters": None,
    "trainable_parameters": None,
    "memory": None,
    "room_bytes": None,
    "fits": None,
    "mend": None,
    "flops": None,
    "matmul_tflops": 0.5,
    "eta": {"expected": 3600.0, "low": 1800.0, "high": 7200.0, "runs": 9},
    "unplanned": None,
}
"""Of a job on a model that nothing but its time is planned for."""


@dataclass
class Live:
    """A running service: `mine` and `theirs` are clients of two projects."""

    url: str
    service: Service
    project_id: str
    mine: httpx.Client
    theirs: httpx.Client

    @property
    def database(self) -> Database:
        return self.service.database


def upload(
    client: httpx.Client, content: bytes = CHAT, purpose: str = "fine-tune", name: str = "rows.jsonl"
) -> httpx.Response:
    return client.post("/v1/files", data={"purpose": purpose}, files={"file": (name, content)})


def pretrain_spec(file_id: str, **changes: Any) -> dict[str, Any]:
    return {"kind": "pretrain", "training_file": file_id, **changes}


def mixed_spec(*file_ids: str) -> dict[str, Any]:
    return {
        "kind": "pretrain",
        "mixture": [{"file": file_id} for file_id in file_ids],
        "hyperparameters": {"max_steps": 2},
    }


def text_file(client: httpx.Client) -> str:
    return upload(client, b"to be or not to be\n", "pretrain", "text.txt").json()["id"]


def submitted(live: Live, **changes: Any) -> str:
    """The id of a new queued job."""
    answer = live.mine.post("/v1/jobs", json=pretrain_spec(text_file(live.mine), **changes))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def started(live: Live, **changes: Any) -> tuple[str, int]:
    """A running job and the fence of its holder."""
    job_id = submitted(live, **changes)
    return job_id, claimed(live, job_id)


def claimed(live: Live, job_id: str) -> int:
    """The fence under which the job now runs."""
    with live.database.write() as session:
        claim = leases.claim(session, job_id, worker="tests", lease_s=60)
        assert claim is not None
        leases.begin_running(session, job_id, claim.fence)
    return claim.fence


def settled(live: Live, job_id: str, fence: int, state: JobState = JobState.SUCCEEDED) -> None:
    with live.database.write() as session:
        assert leases.settle(session, job_id, fence, state=state)


def published(
    live: Live,
    name: str,
    files: dict[str, bytes],
    kind: str = "model",
    lineage: dict[str, Any] | None = None,
    **changes: Any,
) -> Artifact:
    """A model or adapter that a job of `mine` made; the job succeeds."""
    job_id, fence = started(live)
    entries = [FileEntry(path, *stored(live, content)) for path, content in files.items()]
    with live.database.write() as session:
        artifact = artifacts.publish_result(
            session,
            job_id,
            fence,
            kind=kind,
            layout=kind,
            name=name,
            step=10,
            files=entries,
            metrics={"eval_loss": 1.5},
            lineage=lineage or {"seed": 42},
            **changes,
        )
        assert artifact is not None
        leases.settle(session, job_id, fence, state=JobState.SUCCEEDED, result={"metrics": {"eval_loss": 1.5}})
    return artifact


def a_plan(live: Live) -> str:
    """The id of a plan that nobody had to make."""
    with live.database.write() as session:
        return plans.add(session, live.project_id, kind="pretrain", spec={}, forecast=FORECAST).id


def stored(live: Live, content: bytes) -> tuple[str, int]:
    writer = live.service.blobs.writer()
    writer.write(content)
    blob = writer.commit()
    return blob.sha256, blob.size_bytes


def error(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for a condition; the machine may have much else to do meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@contextlib.contextmanager
def served(home: Path, database_url: str, **changes: Any) -> Iterator[Live]:
    """The application on a socket of its own. The broker is down, as it may be at any time."""
    storage = StorageSettings(home=home, database_url=database_url, **changes.pop("storage", {}))
    settings = ApiSettings(secret=SECRET.decode(), **changes)
    database = Database(storage.database_url)
    tokens, project_ids = [], []
    with database.write() as session:
        for _ in range(2):
            project = projects.create(session, f"project-{time.monotonic_ns()}")
            project_ids.append(project.id)
            tokens.append(keys.create(session, project.id, "tests", SECRET)[1])
    app = create_app(settings, storage, database, BROKER_DOWN)
    try:
        with served_app(app) as url, client(url, tokens[0]) as mine, client(url, tokens[1]) as theirs:
            yield Live(url, app.state.service, project_ids[0], mine, theirs)
    finally:
        database.close()


def client(url: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False)


@contextlib.contextmanager
def served_app(app: FastAPI) -> Iterator[str]:
    """The address of the application, served by a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, loop="uvloop", http=Protocol, ws="none", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            app.state.service.feed.close()
            server.should_exit = True
            thread.join(20)
