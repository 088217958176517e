"""A database, a blob store and a run folder, and what a test does with them as the API would."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from db import artifacts, files, jobs, leases, orders, projects, records, workers
from db.blobs import BlobStore
from db.models import Artifact, Attempt, Job
from db.session import Database
from engine.jobs import JOB_SPEC, resolve
from workers.celery_signals import Slot
from workers.claim import Lease
from workers.presence import Presence
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[3]
TEXT = "".join(f"the {('red', 'blue', 'small', 'large')[n % 4]} cat {n % 7} sees a dog {n % 11}.\n" for n in range(300))
ENDED = ("succeeded", "failed", "cancelled")


class Workplace:
    """Everything a worker needs but the broker, which a test adds when it starts processes."""

    def __init__(self, home: Path, database_url: str, **settings: Any) -> None:
        self.home = home
        self.database = Database(database_url)
        self.settings = WorkerSettings(
            home=home, database_url=database_url, low_space_bytes=0, ballast_bytes=0, **settings
        )
        self.blobs = BlobStore(self.settings.blobs_dir, low_space_bytes=0)
        with self.database.write() as s:
            self.project_id = projects.create(s, f"project {time.time_ns()}").id

    def close(self) -> None:
        self.database.close()

    def upload(self, text: str = TEXT, format_: str = "text") -> str:
        with self.blobs.writer() as writer:
            writer.write(text.encode())
            blob = writer.commit()
        with self.database.write() as s:
            return files.add(
                s, self.project_id, filename="rows", purpose="pretrain", size_bytes=blob.size_bytes,
                sha256=blob.sha256, format=format_, row_count=text.count("\n"),
            ).id  # fmt: skip

    def submit(self, spec: dict[str, Any], *, base: str | None = None, **told: Any) -> str:
        resolved = resolve(JOB_SPEC.validate_python(spec)).model_dump(mode="json")
        with self.database.write() as s:
            new = jobs.NewJob(self.project_id, resolved, spec["kind"], resolved["resources"]["priority"], base, **told)
            return jobs.create(s, [new])[0].id

    def submit_tiny(self, **changes: Any) -> str:
        """A pre-training job of a few seconds."""
        return self.submit(tiny_pretrain(self.upload(), **changes))

    def job(self, job_id: str) -> Job:
        with self.database.read() as s:
            job = jobs.find(s, job_id)
        assert job is not None
        return job

    def cancel(self, job_id: str) -> None:
        self.order(orders.cancel, job_id)

    def order(self, verb: Callable[..., Job | None], job_id: str) -> Job:
        """Ask something of the job, as its owner does."""
        with self.database.write() as s:
            job = verb(s, self.project_id, job_id)
        assert job is not None
        return job

    def records(self, job_id: str, type_: str | None = None) -> list[records.Record]:
        with self.database.read() as s:
            told = records.since(s, job_id, 0, 100_000)
        return [record for record in told if type_ in {None, record.type}]

    def once_recorded(self, job_id: str, type_: str, act: Callable[..., object], *args: object) -> None:
        """Act, in another thread, as soon as the job has a record of that type: its engine has come so far."""

        def look() -> None:
            wait_until(lambda: bool(self.records(job_id, type_)), f"{type_} is recorded")
            act(*args)

        threading.Thread(target=look, daemon=True).start()

    def losses(self, job_id: str) -> dict[int, float | None]:
        """Training loss by step, each step once."""
        told = [record for record in self.records(job_id, "metrics") if record.split == "train"]
        series = {record.step: record.values["loss"] for record in told if record.step and record.values}
        assert len(series) == len(told), "a step is told twice"
        return series

    def artifacts(self, job_id: str, kind: str) -> list[Artifact]:
        with self.database.read() as s:
            return artifacts.page(s, self.project_id, kinds=[kind], job_id=job_id, after=None, limit=1000)[0]

    def digests(self, artifact: Artifact) -> dict[str, str]:
        with self.database.read() as s:
            return {file.path: file.sha256 for file in artifacts.files(s, artifact.id)}

    def attempts(self, job_id: str) -> list[Attempt]:
        with self.database.read() as s:
            found = [s.get(Attempt, (job_id, number)) for number in range(1, self.job(job_id).fence + 1)]
        return [attempt for attempt in found if attempt is not None]

    def worker_states(self) -> dict[str, str]:
        """What is told of each worker."""
        with self.database.read() as s:
            fleet = workers.look(s)
        return {worker.name: fleet.state_of(worker) for worker in fleet.workers}

    def claim(self, job_id: str, **settings: Any) -> Lease:
        """Hold the job as a worker does."""
        chosen = self.settings.model_copy(update=settings)
        asked_at = time.monotonic()
        with self.database.write() as s:
            claimed = leases.claim(s, job_id, worker="tester", lease_s=chosen.lease_s)
        assert claimed is not None
        return Lease(self.database, claimed, chosen, asked_at)

    def slot(self, engines: Any, blobs: BlobStore | None = None, name: str = "tester") -> Slot:
        """What a worker process has at hand; `engines` stands where its warm engine does."""
        presence = Presence(self.database, name, self.settings)
        return Slot(name, self.settings, self.database, blobs or self.blobs, engines, presence)

    def wait(self, job_id: str, *states: str, timeout_s: float = 90.0) -> Job:
        wait_until(lambda: self.job(job_id).state in (states or ENDED), f"{job_id} {states}", timeout_s)
        return self.job(job_id)

    def wait_for_step(self, job_id: str, step: int, timeout_s: float = 90.0) -> None:
        wait_until(lambda: (self.job(job_id).step or 0) >= step, f"{job_id} at step {step}", timeout_s)

    def environment(self, broker_url: str, **settings: Any) -> dict[str, str]:
        chosen = self.settings.model_dump() | settings
        named = {f"TRAINYARD_{name.upper()}": str(value) for name, value in chosen.items() if value not in (None, {})}
        # Threads only get in each other's way in models this small.
        return {**os.environ, **named, "TRAINYARD_BROKER_URL": broker_url, "OMP_NUM_THREADS": "1"}

    @contextmanager
    def process(self, module: str, broker_url: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
        """`python -m workers` or `python -m workers.recover`, stopped at the end; its log is kept in the home."""
        with (self.home / f"{module}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=self.environment(broker_url, **settings),
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(40)


def tiny_pretrain(file_id: str, *, steps: int = 6, save_steps: int = 3, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "pretrain",
        "model": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        "tokenizer": {"vocab_size": 320},
        "training_file": file_id,
        "hyperparameters": {"max_length": 32, "per_device_train_batch_size": 2, "max_steps": steps},
        "checkpoints": {"save_steps": save_steps},
        **changes,
    }


def wait_until(truth: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not truth():
        assert time.monotonic() < deadline, f"after {timeout_s} s not: {what}"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """The processes below a process, from /proc; zombies are not counted."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def engines(pid: int) -> list[int]:
    """The engine processes below a worker."""
    return [child for child in descendants(pid) if "-m\0engine" in _command(child)]


def at_work(engine: int, job_id: str = "") -> bool:
    """Whether that engine has its events open, of that job where one is named: it is past its first moments."""
    try:
        links = [*Path(f"/proc/{engine}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(path.endswith(".jsonl") and job_id in path for path in map(_opened, links))


def _opened(link: Path) -> str:
    """What a descriptor is open on; one that was closed meanwhile, as of a file just saved, on nothing."""
    try:
        return str(link.readlink())
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    found = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [child for child in found if alive(child)]
