"""Starting the puppet as a worker starts the engine."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from db.blobs import Blob, BlobStore
from db.errors import Unavailable
from db.session import Database, Session
from tests.integration.workers.workplace import Workplace
from workers import stage
from workers.attempt import Attempt
from workers.claim import Lease
from workers.process import EngineProcess
from workers.supervise import End, Supervision

_PUPPET = Path(__file__).parent / "puppet.py"


class Stage:
    """A claimed job whose engine is a puppet."""

    def __init__(self, place: Workplace, lease: Lease, script: list[tuple[str, Any]]) -> None:
        self.lease = lease
        self.stopping = threading.Event()
        run_dir = place.settings.run_dir(lease.job.id, lease.fence)
        planned = lease.read(lambda s: stage.plan(s, lease.job, lease.fence))
        stage.lay_out(planned, place.blobs, run_dir)
        (run_dir / "script.json").write_text(json.dumps(script))
        self.attempt = Attempt(lease, run_dir, planned.lineage, place.blobs, place.settings, self.stopping)
        self.engine: EngineProcess | None = None

    def supervise(self) -> End:
        """Play the script to its end, or to whatever ends it."""
        self.lease.begin_running()
        self.engine = start(self.attempt.run_dir)
        return Supervision(self.attempt, self.engine).run()


class Puppets:
    """Stands where a worker keeps its warm engine; every job it is given plays the same script."""

    def __init__(self, script: list[tuple[str, Any]]) -> None:
        self._script = script
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def start(self, run_dir: Path) -> EngineProcess:
        (run_dir / "script.json").write_text(json.dumps(self._script))
        return start(run_dir)


class SlowBlobs(BlobStore):
    """A store on a disk so slow that something else happens before the first file is stored."""

    meanwhile: Callable[[], None]
    asked = 0

    def put_file(self, path: Path) -> Blob:
        self.asked += 1
        if self.asked == 1:
            self.meanwhile()
        return super().put_file(path)


def start(run_dir: Path) -> EngineProcess:
    with (run_dir / "engine.log").open("ab") as log:
        popen = subprocess.Popen(
            [sys.executable, str(_PUPPET), str(run_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return EngineProcess(popen)


def started(total_steps: int = 4, start_step: int = 0) -> tuple[str, Any]:
    facts = {"device": "cpu", "precision": "fp32", "parameters": 9, "trainable_parameters": 9, "train_rows": 3}
    facts |= {"eval_rows": 1, "total_steps": total_steps, "start_step": start_step, "matmul_tflops": 0.1}
    facts |= {"attention": "bmm"}
    return "event", {"type": "started", **facts}


def metrics(step: int, loss: float = 1.0) -> tuple[str, Any]:
    return "event", {"type": "metrics", "step": step, "split": "train", "values": {"loss": loss}}


def checkpoint(step: int) -> list[tuple[str, Any]]:
    path = f"checkpoints/step-{step:08d}"
    files = {f"{path}/model.safetensors": f"weights of step {step}", f"{path}/state/progress.json": "{}"}
    event = {"type": "checkpoint", "step": step, "path": path, "layout": "model", "best": True}
    return [("files", files), ("event", {**event, "metrics": {"eval_loss": 1.0}})]


def finished(step: int) -> list[tuple[str, Any]]:
    exported = {"type": "exported", "step": step, "path": "output", "layout": "model", "metrics": {"eval_loss": 1.0}}
    return [
        ("files", {"output/config.json": "{}", "output/model.safetensors": "weights"}),
        ("event", exported),
        ("event", {"type": "finished", "step": step, "metrics": {"eval_loss": 1.0}}),
        ("exit", 0),
    ]


def lose_every_other_answer(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every other commit, the first of them too, is heard of by nobody."""
    write, lost = database.write, cycle([True, False])

    @contextmanager
    def committed_unheard() -> Iterator[Session]:
        with write() as s:
            yield s
        if next(lost):
            raise Unavailable("the connection went away after the commit")

    monkeypatch.setattr(database, "write", committed_unheard)
