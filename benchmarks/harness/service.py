"""The service to measure: as `trainyard up` starts it, or its API and broker alone."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.load import Call, send
from benchmarks.harness.processes import REPOSITORY, answers, free_port, running, wait_until
from cli.home import prepare
from cli.valkey import valkey_program


class Service(NamedTuple):
    """A running service; `pids` are the roots of its processes."""

    home: Path
    port: int
    key: str
    pids: list[int]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json"}

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.home}/trainyard.db"

    def call(self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
        """Send a request and return the JSON of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = self.headers | {"content-type": content_type}
        answer = json.loads(send(connection, Call(method, path, body), headers))
        connection.close()
        return answer

    def upload(self, name: str, content: bytes, purpose: str) -> str:
        """Upload a file and return its id."""
        fields = (
            f'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--cut\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        )
        body = fields.encode() + content + b"\r\n--cut--\r\n"
        return self.call("POST", "/v1/files", body, "multipart/form-data; boundary=cut")["id"]


@contextmanager
def serve(home: Path, environment: Mapping[str, str]) -> Iterator[Service]:
    """Run the whole service: `trainyard up` in a new home, with these settings."""
    home.mkdir(parents=True)
    port, key_file, log = free_port(), home / "key", home / "up.log"
    settings = {**environment, "TRAINYARD_HOME": str(home), "TRAINYARD_CONFIG": str(key_file)}
    command = [sys.executable, "-m", "cli.main", "up", "--port", str(port)]
    with running(command, log=log, environment=settings, folder=REPOSITORY) as process:
        wait_until(lambda: answers(port, "/readyz"), process, log)
        yield Service(home, port, key_file.read_text().strip(), [process.pid])


@contextmanager
def serve_api(home: Path, environment: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Run API and broker without workers, with these settings: jobs are accepted and wait."""
    prepare(home, home / "key")
    port, key_file, log = free_port(), home / "key", home / "api.log"
    program, broker_url = valkey_program(home, free_port())
    settings = {
        **(environment or {}),
        "TRAINYARD_HOME": str(home),
        "TRAINYARD_PORT": str(port),
        "TRAINYARD_BROKER_URL": broker_url,
    }
    bootstrap = [sys.executable, "-m", "api.bootstrap", "--key-file", key_file]
    with ExitStack() as stack:
        broker = stack.enter_context(running(program.command, log=home / "valkey.log", environment={}))
        subprocess.run(bootstrap, cwd=REPOSITORY, env={**os.environ, **settings}, check=True)
        command = [sys.executable, "-m", "api"]
        api = stack.enter_context(running(command, log=log, environment=settings, folder=REPOSITORY))
        wait_until(lambda: answers(port, "/readyz"), api, log)
        yield Service(home, port, key_file.read_text().strip(), [broker.pid, api.pid])
