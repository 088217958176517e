"""The service as it is shipped, and a job that goes on for as long as it is looked at: for figures of time."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from db import jobs, records
from db.models import Job
from db.records import Record
from db.session import Database
from tests.chaos import load
from tests.e2e import service
from tests.integration.workers.workplace import TEXT

_ALL = 100_000


class Shipped:
    """`trainyard up` with its own settings but for those that are named, seen over HTTP and in its database."""

    def __init__(self, up: service.Service) -> None:
        self.up = up
        self.database = Database(f"sqlite:///{up.home}/trainyard.db")
        self.http = up.http()
        self._text = load.upload(self.http, "text.txt", TEXT, "pretrain")

    def submit(self, *, steps: int, save_steps: int) -> str:
        """A job of some hundredths of a second a step; its id."""
        spec = {
            "kind": "pretrain",
            "model": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
            "tokenizer": {"vocab_size": 320},
            "training_file": self._text,
            "hyperparameters": {"max_length": 256, "per_device_train_batch_size": 4, "max_steps": steps},
            "checkpoints": {"save_steps": save_steps, "save_total_limit": 2},
        }
        answer = self.http.post("/v1/jobs", json=spec)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def job(self, job_id: str) -> Job:
        with self.database.read() as s:
            job = jobs.find(s, job_id)
        assert job is not None
        return job

    def told(self, job_id: str, since: int = 0) -> list[Record]:
        with self.database.read() as s:
            return records.since(s, job_id, since, _ALL)


@contextmanager
def shipped(**settings: str) -> Iterator[Shipped]:
    """In a folder that is removed at the end."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the service ends with us
    with tempfile.TemporaryDirectory(prefix="trainyard-shipped-") as folder:
        up = service.start(Path(folder) / "home", **settings)
        running = Shipped(up)
        try:
            yield running
        finally:
            running.http.close()
            running.database.close()
            up.stop()


def until(truth: Callable[[], Any], what: str, within_s: float) -> Any:
    """Wait for something to be so; what it is then."""
    deadline = time.monotonic() + within_s
    while not (found := truth()):
        assert time.monotonic() < deadline, f"after {within_s:g} s not: {what}"
        time.sleep(0.02)
    return found
