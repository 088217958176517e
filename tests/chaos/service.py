"""The service under fire: its parts as processes that are started again as soon as they are gone."""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from api.bootstrap import PROJECT, bootstrap
from api.settings import ApiSettings
from db import clock, jobs, projects, records
from db.records import Record
from db.session import Database
from db.settings import StorageSettings
from db.state import ENDED
from tests.chaos import durability, nursery, stall
from tests.integration.workers.workplace import alive, children, descendants
from tests.servers import S3, Postgres, Server, Valkey, free_port, remove_left_over

LEASE_S = 3.0
_ALL = 100_000
_DATABASE = "trainyard.db"
_DISK_BYTES = 512 << 20
_WRITES_WITHIN_S = 0.3
_READY_WITHIN_S = 180.0
_SETTINGS = {
    "low_space_bytes": "1000000",
    "ballast_bytes": str(16 << 20),
    "warm_engines": "0",
    "lease_s": str(LEASE_S),
    "heartbeat_s": "0.5",
    "max_attempts": "100000",  # how often a job is tried is not what is tested here
    "backoff_s": "0",
    "preempt_after_s": "1",
    "redispatch_after_s": "1",
    "space_wait_s": "2",
    "blobs_wait_s": "2",
}
_PARTS = {
    "api": ("api", {}),
    "reaper": ("workers.recover", {}),
    "worker a": ("workers", {"WORKER_NAME": "a"}),
    "worker b": ("workers", {"WORKER_NAME": "b"}),
}
WORKERS = ("worker a", "worker b")


class Process(NamedTuple):
    """A process and when it was started, which together are never used twice."""

    pid: int
    started: str


class Claim(NamedTuple):
    """A job that a worker holds."""

    job_id: str
    fence: int


class Service:
    """API, reaper, two workers, broker and database in a folder of their own, on a disk of their own where that can be."""

    def __init__(self, profile: str, bug: str | None = None) -> None:
        for home in Path("/tmp").glob("trainyard-chaos-*/home"):
            if not Path("/proc", home.parent.name.split("-")[2]).exists():
                _unmount(home)
        remove_left_over("chaos")
        self.folder = Path(tempfile.mkdtemp(prefix=f"trainyard-chaos-{os.getpid()}-", dir="/tmp"))
        self.home = self.folder / "home"
        self.home.mkdir()
        self.no_disk = _mount(self.home)
        self._bug = bug
        self.broker = Valkey()
        self.postgres = Postgres(durable=True) if profile == "scaled" else None
        url = self.postgres.create() if self.postgres else f"sqlite:///{self.home / _DATABASE}"
        self.bucket = S3() if profile == "scaled" else None
        blobs = self.bucket.settings("chaos") if self.bucket else {}
        storage = StorageSettings(home=self.home, database_url=url, **blobs)
        key_file = self.folder / "key"
        bootstrap(ApiSettings(), storage, key_file)
        self.database = Database(url)
        self.blobs = storage.open_blobs(low_space_bytes=0)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.key = key_file.read_text().strip()
        self._environment = self._settings({"database_url": url, **blobs})
        self.pids: dict[str, int] = {}
        self._held: dict[str, float] = {}
        nursery.open_nursery()

    def _settings(self, storage: dict[str, str]) -> dict[str, str]:
        where = {"home": str(self.home), "broker_url": self.broker.url, "port": self.url.rpartition(":")[2]}
        ours = {f"TRAINYARD_{name.upper()}": value for name, value in (_SETTINGS | where | storage).items()}
        return {**os.environ, **ours, **durability.environment(self.folder), **stall.environment(self.folder)}

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=5, trust_env=False)

    def tend(self) -> None:
        """Start what is not there, but for what is held down."""
        now = time.monotonic()
        for name, (module, settings) in _PARTS.items():
            if self._held.get(name, 0) <= now and not alive(self.pids.get(name, -1)):
                environment = self._environment | {f"TRAINYARD_{key}": value for key, value in settings.items()}
                self.pids[name] = nursery.start(module, environment, self.folder / f"{name}.log", self._bug)

    def await_ready(self) -> None:
        """Until the API answers; the end of its log is told when it does not."""
        with self.client() as client:
            deadline = time.monotonic() + _READY_WITHIN_S
            while not _answers(client):
                self.tend()
                assert time.monotonic() < deadline, (self.folder / "api.log").read_text()[-3000:]
                time.sleep(0.05)

    def workers(self) -> list[int]:
        """The main processes of the workers that run."""
        return [self.pids[name] for name in WORKERS if alive(self.pids.get(name, -1))]

    def slots(self) -> list[int]:
        """The processes of the workers that each carry out one job at a time."""
        return [slot for worker in self.workers() for slot in children(worker)]

    def held_by(self, slot: int) -> Claim | None:
        """The job that a worker's process holds now, and its fence."""
        (name,) = [name for name in WORKERS if slot in children(self.pids[name])] or [None]
        with self.database.read() as s:
            project = projects.by_name(s, PROJECT)
            assert project is not None
            running, _ = jobs.page(s, project.id, after=None, limit=100, state="running")
        return next((Claim(job.id, job.fence) for job in running if f"worker {job.worker}" == name), None)

    def is_overtaken(self, claim: Claim) -> bool:
        """Whether another holds the job by now, or nobody needs to: it has ended."""
        with self.database.read() as s:
            job = jobs.find(s, claim.job_id)
        return job is None or job.fence > claim.fence or job.state in ENDED

    def lease_over_at(self, claim: Claim) -> int | None:
        """The number of the job's last event, if the claim's lease is over; a job that has ended needs none.

        None too while somebody writes: whoever was stopped inside a transaction that began under the lease
        may end it, for nobody can have taken the job meanwhile.
        """
        if self._is_writing():
            return None
        with self.database.read() as s:
            job = jobs.find(s, claim.job_id)
            if job is None or job.state in ENDED:
                return None
            over = job.fence > claim.fence or (job.lease_expires_at or 0.0) <= clock.now(s)
        return job.last_seq if over else None

    def _is_writing(self) -> bool:
        """Whether SQLite's one writer is at it; PostgreSQL has by now taken back what a stopped worker began."""
        if self.postgres is not None:
            return False
        with closing(sqlite3.connect(self.home / _DATABASE, timeout=_WRITES_WITHIN_S, isolation_level=None)) as tried:
            try:
                tried.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                return True
            tried.execute("ROLLBACK")
        return False

    def told(self, job_id: str, since: int) -> list[Record]:
        """What the database has of a job's events and metrics after that one, in order."""
        with self.database.read() as s:
            return records.since(s, job_id, since, _ALL)

    def trainers(self) -> list[int]:
        return [trainer for slot in self.slots() for trainer in children(slot)]

    def servers(self) -> list[Server]:
        return [server for server in (self.broker, self.postgres, self.bucket) if server is not None]

    def cut_power(self) -> int:
        """End every process at once, and lose what no fsync had made durable; how many blobs that took."""
        for part in self.pids.values():
            for pid in [part, *descendants(part)]:
                kill(pid)
        wait_gone(lambda: [pid for pid in self.pids.values() if alive(pid)])
        return durability.cut_power(self.folder, self.blobs.root)

    def leftovers(self) -> list[int]:
        """Processes of the service's parts, whoever's children they are by now."""
        return [pid for pid in nursery.forked() if alive(pid)]

    def close(self, *, keep: bool = False) -> list[int]:
        """End it as a crash would. The processes that are still there 5 s later, which are then ended too."""
        for pid in self.pids.values():
            kill(pid)
        left = wait_gone(self.leftovers)
        for pid in left:
            kill(pid)
        self.database.close()
        for server in self.servers():
            server.close()
        _unmount(self.home)
        if not keep:
            shutil.rmtree(self.folder)
        return left


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_gone(left: Callable[[], list[int]], within_s: float = 5.0) -> list[int]:
    """Wait until nothing is left; what still is when the time is over."""
    deadline = time.monotonic() + within_s
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    return left()


def identity(pid: int) -> Process | None:
    """The process that has this id now."""
    try:
        return Process(pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def state_of(pid: int) -> str:
    """R, S, D, T (stopped) or Z, as /proc has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _mount(folder: Path) -> str | None:
    """A small disk of its own on the folder, or why there is none."""
    if os.geteuid() != 0:
        return "only root can mount a disk that may be filled"
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or None


def _unmount(folder: Path) -> None:
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
