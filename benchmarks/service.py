"""Our side: the service as `trainyard up` starts it, or its API and broker alone."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from load import Call, send
from processes import answers, free_port, start, stop, wait_until

from cli.home import prepare
from cli.valkey import valkey_program

REPOSITORY = Path(__file__).resolve().parent.parent


class Service(NamedTuple):
    """A running service. The first process is the one to stop last."""

    home: Path
    port: int
    key: str
    processes: tuple[subprocess.Popen[bytes], ...]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json"}

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.home}/trainyard.db"

    def stop(self) -> None:
        for process in reversed(self.processes):
            stop(process)

    def call(self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
        """One request; the answer's JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = self.headers | {"content-type": content_type}
        answer = json.loads(send(connection, Call(method, path, body), headers))
        connection.close()
        return answer

    def upload(self, name: str, content: bytes, purpose: str) -> str:
        """The id of a new file."""
        fields = (
            f'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--cut\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        )
        body = fields.encode() + content + b"\r\n--cut--\r\n"
        return self.call("POST", "/v1/files", body, "multipart/form-data; boundary=cut")["id"]


def serve(home: Path, environment: Mapping[str, str]) -> Service:
    """The whole service: `trainyard up` in a new home, with these settings."""
    key_file, log = home / "key", home / "up.log"
    home.mkdir(parents=True)
    port = free_port()
    settings = {**environment, "TRAINYARD_HOME": str(home), "TRAINYARD_CONFIG": str(key_file)}
    process = start([sys.executable, "-m", "cli.main", "up", "--port", str(port)], log=log, environment=settings)
    wait_until(lambda: answers(port, "/readyz"), process, log)
    return Service(home, port, key_file.read_text().strip(), (process,))


def serve_api(home: Path) -> Service:
    """API and broker without workers: jobs are accepted and wait."""
    prepare(home)
    port, key_file, log = free_port(), home / "key", home / "api.log"
    program, broker_url = valkey_program(home, free_port())
    settings = {
        "TRAINYARD_HOME": str(home),
        "TRAINYARD_PORT": str(port),
        "TRAINYARD_BROKER_URL": broker_url,
        "TRAINYARD_SECRET": (home / "secret").read_text().strip(),
        "PYTHONPATH": str(REPOSITORY),
    }
    broker = start(program.command, log=home / "valkey.log", environment={})
    bootstrap = [sys.executable, "-m", "api.bootstrap", "--key-file", key_file]
    subprocess.run(bootstrap, cwd=REPOSITORY, env={**os.environ, **settings}, check=True)
    api = start([sys.executable, "-m", "api"], log=log, environment=settings, folder=REPOSITORY)
    wait_until(lambda: answers(port, "/readyz"), api, log)
    return Service(home, port, key_file.read_text().strip(), (broker, api))


def wait_state(service: Service, job_id: str, states: frozenset[str], limit_s: float = 600.0) -> dict[str, Any]:
    """Poll a job until it is in one of the states."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        job = service.call("GET", f"/v1/jobs/{job_id}")
        if job["status"] in states:
            return job
        time.sleep(0.2)
    raise TimeoutError(f"{job_id} is not {sorted(states)} after {limit_s:.0f} s")
