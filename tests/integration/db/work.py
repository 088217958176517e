"""Short ways to what a test of the repositories needs first."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from db import artifacts, jobs, leases, records
from db.artifacts import FileEntry
from db.models import Artifact, Job
from db.session import Database

ENTRY = FileEntry("model.safetensors", "a" * 64, 10)


@dataclass
class Work:
    """One project, and short ways to say what a test needs before it comes to its point."""

    database: Database
    project_id: str

    def submit(self, **changes: Any) -> str:
        given = {"kind": "sft", "priority": 0, "base_artifact_id": None} | changes
        spec = given.pop("spec", {"kind": "sft"})
        with self.database.write() as s:
            return jobs.create(s, [jobs.NewJob(self.project_id, spec, **given)])[0].id

    def claim(self, job_id: str, *, lease_s: float = 60.0, worker: str = "w1") -> int:
        with self.database.write() as s:
            claim = leases.claim(s, job_id, worker=worker, lease_s=lease_s)
        assert claim is not None
        return claim.fence

    def run(self, job_id: str, *, lease_s: float = 60.0) -> int:
        fence = self.claim(job_id, lease_s=lease_s)
        if lease_s > 0:
            with self.database.write() as s:
                assert leases.begin_running(s, job_id, fence)
        return fence

    def job(self, job_id: str) -> Job:
        with self.database.read() as s:
            job = jobs.find(s, job_id)
        assert job is not None
        return job

    def checkpoint(self, job_id: str, fence: int, step: int, **changes: Any) -> Artifact | None:
        given = {"layout": "model", "files": [ENTRY], "metrics": {}, "lineage": {}, "keep": 10} | changes
        with self.database.write() as s:
            return artifacts.publish_checkpoint(s, job_id, fence, step=step, **given)

    def result(self, job_id: str, fence: int, name: str = "tiny", **changes: Any) -> Artifact | None:
        given = {"kind": "model", "layout": "model", "step": 1, "files": [ENTRY], "metrics": {}, "lineage": {}}
        with self.database.write() as s:
            return artifacts.publish_result(s, job_id, fence, name=name, **(given | changes))

    def records(self, job_id: str) -> list[records.Record]:
        with self.database.read() as s:
            return records.since(s, job_id, 0, 10_000)

    def write(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a repository's function in a transaction of its own."""
        with self.database.write() as s:
            return act(s, *args, **kwargs)

    def read(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a repository's function on one snapshot."""
        with self.database.read() as s:
            return act(s, *args, **kwargs)


def event(message: str = "hello", **changes: Any) -> dict[str, Any]:
    given = {"type": "log", "level": "info", "message": message, "data": None, "created_at": time.time()}
    return given | changes


def metric(step: int, loss: float | None = 1.0, **changes: Any) -> dict[str, Any]:
    return {"split": "train", "step": step, "values": {"loss": loss}, "created_at": time.time()} | changes
