"""A service with a prepared history and no workers: its API alone, over runs in every state without any training."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.children import history
from db import jobs, leases, orders, outbox, records
from db.jobs import NewJob
from db.session import Database, Session
from db.state import JobState
from tests.e2e.service import ROOT, wait_until
from tests.servers import free_port, tie_to_parent

LEASE_S = 3600.0
STEPS = 400
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>" + "B" * 10_000
RIGHT_TO_LEFT = "ריצה של בדיקה عربي " * 8
SECRET = "hf_" + "Q" * 34
FIGURES = {"grad_norm": 1.0, "learning_rate": 1e-4, "tokens_per_s": 900.0, "mfu": 0.4, "device_use": 0.9,
           "memory_bytes": 5e8, "step_s": 0.1, "data_wait_s": 0.001}  # fmt: skip


@dataclass
class Past:
    """The service's address, key and database, and the ids of its runs and of its other objects, by name."""

    url: str
    key: str
    home: Path
    database: Database
    project_id: str
    runs: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, trust_env=False)

    def show(self, name: str) -> dict[str, Any]:
        with self.http() as http:
            return http.get(f"/v1/jobs/{self.runs[name]}").json()

    def record(self, name: str, *metrics: dict[str, Any], events: tuple[dict[str, Any], ...] = ()) -> None:
        """Write records as the run's worker would."""
        with self.database.write() as s:
            assert records.append(s, self.runs[name], 1, events=events, metrics=metrics, lease_s=LEASE_S)


@contextmanager
def serve(home: Path) -> Iterator[Past]:
    """Run the API in a process, on a database that has nothing but a key; its broker is unreachable."""
    home.mkdir(parents=True)
    key_file, port = home / "credentials", free_port()
    settings = {
        "TRAINYARD_HOME": str(home),
        "TRAINYARD_PORT": str(port),
        "TRAINYARD_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")} | settings
    bootstrap = [sys.executable, "-m", "api.bootstrap", "--key-file", key_file]
    subprocess.run(bootstrap, cwd=ROOT, env=environment, check=True, capture_output=True)
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api"], cwd=ROOT, env=environment, stdout=log, stderr=log,
            preexec_fn=tie_to_parent,  # noqa: PLW1509 - one call into the C library, which takes no lock
        )  # fmt: skip
    database = Database(f"sqlite:///{home}/trainyard.db")
    try:
        past = Past(f"http://127.0.0.1:{port}", key_file.read_text().strip(), home, database,
                    history.project_of(database))  # fmt: skip
        wait_until(lambda: answers(past), "answering", 180)
        yield past
    finally:
        database.close()
        process.terminate()
        process.wait(20)


def answers(past: Past) -> bool:
    try:
        with past.http() as http:
            return http.get("/readyz").is_success
    except httpx.TransportError:
        return False


def fill(past: Past, count: int) -> None:
    """Add many short runs, then one in every state, and those that could break a page."""
    history.add_runs(past.database, past.project_id, count, steps=3)
    for name, hidden in (("plain", {}), ("hostile", {"suffix": MARKUP}), ("right-to-left", {"suffix": RIGHT_TO_LEFT})):
        past.runs[name] = history.add_run(past.database, past.project_id, name, curve(), **hidden)
    past.runs["short"] = history.add_run(past.database, past.project_id, "short", curve(20))
    past.runs["silent"] = history.add_run(past.database, past.project_id, "silent", [])
    many = {f"value_{number:03d}": number / 7 for number in range(500)}
    past.runs["many-values"] = history.add_run(
        past.database, past.project_id, "many-values", curve(), hyperparameters=many
    )
    broken = curve()
    for step, value in ((100, None), (101, None), (250, None)):
        broken[step - 1]["values"]["loss"] = value
    past.runs["not-finite"] = history.add_run(past.database, past.project_id, "not-finite", broken)
    with past.database.write() as s:
        for name in ("queued", "preparing", "running", "pausing", "paused", "failed", "cancelled"):
            past.runs[name] = bring_to(s, past.project_id, name)


def curve(steps: int = STEPS) -> list[dict[str, Any]]:
    """Training points and, every hundred steps, an evaluation."""
    rows = history.curve(steps)
    for row in rows:
        row["values"] |= FIGURES
    held = [row | {"split": "eval", "values": {"eval_loss": row["values"]["loss"] + 0.1}} for row in rows[99::100]]
    return [*rows, *held]


def bring_to(s: Session, project_id: str, state: str) -> str:
    """Bring a new job into a state through the transitions that lead there."""
    spec = history.SPEC | {"suffix": state, "hyperparameters": {"max_steps": 1000}}
    (job,) = jobs.create(s, [NewJob(project_id, spec, "pretrain", 0)])
    outbox.mark_sent(s, [message.id for message in outbox.pending(s, 1000) if message.job_id == job.id])
    if state == "queued":
        return job.id
    claim = leases.claim(s, job.id, worker="past", lease_s=LEASE_S)
    assert claim
    if state == "preparing":
        return job.id
    assert leases.begin_running(s, job.id, claim.fence)
    rows = curve()
    for row in rows:
        if row["split"] == "train":
            row["values"]["eta_s"] = 60.0 + (STEPS - row["step"])
    assert records.append(s, job.id, claim.fence, events=[started(), leak()], metrics=rows, lease_s=LEASE_S)
    if state in {"pausing", "paused"}:
        assert orders.pause(s, project_id, job.id)
    if state == "paused":
        assert leases.release(s, job.id, claim.fence, outcome="paused", message="paused")
    if state == "cancelled":
        assert leases.settle(s, job.id, claim.fence, state=JobState.CANCELLED, message="stopped on request")
    if state == "failed":
        assert leases.settle(
            s, job.id, claim.fence, state=JobState.FAILED, failure="out_of_memory", code="cuda_out_of_memory",
            message=f"it ran out of memory; the hub said no to {SECRET}", mend="halve per_device_train_batch_size",
        )  # fmt: skip
    return job.id


def started() -> dict[str, Any]:
    data = {"device": "cpu", "precision": "bf16", "matmul_tflops": 0.2, "total_steps": 1000, "start_step": 0}
    return {"type": "started", "level": "info", "message": "started on cpu", "data": data, "created_at": time.time()}


def leak() -> dict[str, Any]:
    """A library's message that contains a secret."""
    message = f"401 for {SECRET}: ask for access"
    return {"type": "log", "level": "warn", "message": message, "data": None, "created_at": time.time()}


def point(step: int, loss: float | None) -> dict[str, Any]:
    assert loss is None or math.isfinite(loss)
    values = {"loss": loss, "tokens": 1024.0 * step, "eta_s": 30.0} | FIGURES
    return {"split": "train", "step": step, "values": values, "created_at": time.time()}


def crowding() -> float:
    """Return by how much other load stretches wall time now, from 1 up to the 2 that tests of speed allow for."""
    wall, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < 0.1:
        pass
    return min(2.0, max(1.0, (time.perf_counter() - wall) / 0.1))
