"""The real process: `python -m api.bootstrap`, then `python -m api`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.bootstrap import bootstrap as begin
from api.settings import ApiSettings
from db import files, projects
from db.session import Database
from db.settings import StorageSettings
from tests.integration.api.live import BROKER_DOWN, client, pretrain_spec, served_app, text_file, until

ROOT = Path(__file__).resolve().parents[3]
MAX_RESIDENT_BYTES = 200 * 10**6
HEAVY = ("torch", "transformers", "numpy", "libtorch")


@dataclass
class Process:
    home: Path
    process: subprocess.Popen[bytes]
    client: httpx.Client


def environment(home: Path, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "TRAINYARD_HOME": str(home),
        "TRAINYARD_PORT": str(port),
        "TRAINYARD_BROKER_URL": BROKER_DOWN,
    }


def bootstrap(home: Path, port: int = 0) -> str:
    command = [sys.executable, "-m", "api.bootstrap", "--key-file", str(home / "key")]
    subprocess.run(command, cwd=ROOT, env=environment(home, port), check=True, capture_output=True)
    return (home / "key").read_text().strip()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home = tmp_path_factory.mktemp("process")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    key = bootstrap(home, port)
    with (home / "log").open("wb") as log:
        command = [sys.executable, "-m", "api"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(home, port), stderr=log)
    asking = client(f"http://127.0.0.1:{port}", key)

    def ready() -> bool:
        try:
            return asking.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    with asking:
        try:
            until(ready, 20)
            yield Process(home, process, asking)
        finally:
            process.kill()
            process.wait()


def test_the_api_never_imports_torch_and_stays_under_200_mb(running: Process):
    file_id = text_file(running.client)
    content = b'{"text": "%b"}\n' % (b"x" * 1000) * 20_000
    upload = running.client.post("/v1/files", data={"purpose": "pretrain"}, files={"file": ("big.jsonl", content)})
    assert upload.status_code == 201
    for _ in range(50):
        assert running.client.post("/v1/jobs", json=pretrain_spec(file_id)).status_code == 201
    assert len(running.client.get("/v1/jobs", params={"limit": 50}).json()["data"]) == 50
    mapped = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert not [name for name in HEAVY if f"/{name}" in mapped]
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kib * 1024 < MAX_RESIDENT_BYTES


@pytest.mark.parametrize(
    ("missing", "told"), [("secret", "the database has keys, and"), ("blobs", "the database names stored files")]
)
def test_a_home_whose_secret_or_blobs_are_gone_is_refused(tmp_path: Path, missing: str, told: str):
    storage = with_a_file(tmp_path)
    begin(ApiSettings(), storage, tmp_path / "key")
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=told):
        begin(ApiSettings(), storage, tmp_path / "key")
    assert not (tmp_path / missing).exists()


def test_another_secret_than_that_of_the_home_is_refused_and_no_key_is_written_over(tmp_path: Path):
    storage = with_a_file(tmp_path)
    key = (tmp_path / "key").read_text()
    with pytest.raises(ValueError, match="TRAINYARD_SECRET differs from"):
        begin(ApiSettings(secret="another"), storage, tmp_path / "key")
    assert (tmp_path / "key").read_text() == key
    begin(ApiSettings(secret=(tmp_path / "secret").read_text()), storage, tmp_path / "key")
    assert (tmp_path / "key").read_text() == key


@pytest.mark.parametrize("mark", ["blobs", "initialised"])
def test_a_home_in_use_whose_database_is_another_and_empty_is_refused(tmp_path: Path, mark: str):
    storage = with_a_file(tmp_path)
    if mark == "initialised":
        (tmp_path / "blobs").rename(tmp_path / "elsewhere")
        (tmp_path / mark).touch()
    key = (tmp_path / "key").read_text()
    lost = storage.model_copy(update={"database_url": f"sqlite:///{tmp_path}/another.db"})
    for _ in range(2):
        with pytest.raises(ValueError, match="the database is empty"):
            begin(ApiSettings(), lost, tmp_path / "key")
    assert (tmp_path / "key").read_text() == key


def test_what_a_disk_and_the_service_itself_leave_in_a_store_is_no_stored_file(tmp_path: Path):
    storage = with_a_file(tmp_path)
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    storage.open_blobs(low_space_bytes=0).claim("inst-of-this-one")
    (tmp_path / "blobs/lost+found").mkdir()
    with pytest.raises(ValueError, match="make the folder") as refused:
        begin(ApiSettings(), storage, tmp_path / "key")
    told = str(refused.value).partition("make the folder ")[2].split()[0]
    Path(told).mkdir()
    begin(ApiSettings(), storage, tmp_path / "key")


def test_the_doctor_looks_into_a_home_whose_secret_is_told_by_the_environment(tmp_path: Path):
    with_a_file(tmp_path, ApiSettings(secret="of the environment"))
    assert not (tmp_path / "secret").exists()
    told = {"TRAINYARD_SECRET": "of the environment", "TRAINYARD_CONFIG": str(tmp_path / "key")}
    command = [sys.executable, "-m", "cli.main", "doctor", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env={**environment(tmp_path, 0), **told}, check=False, capture_output=True, text=True
    )
    checks = {check["check"]: check for check in json.loads(done.stdout)}
    assert "belongs to no installation yet" in checks["blobs"]["message"]
    assert checks["storage"]["message"].startswith("1 stored files")


def with_a_file(home: Path, settings: ApiSettings | None = None) -> StorageSettings:
    """A home that has been in use."""
    storage = StorageSettings(home=home)
    begin(settings or ApiSettings(), storage, home / "key")
    with storage.open_blobs(low_space_bytes=0).writer() as writer:
        writer.write(b"rows")
        blob = writer.commit()
    database = Database(storage.database_url)
    with database.write() as s:
        (project,) = projects.list_all(s)
        files.add(
            s,
            project.id,
            filename="rows",
            purpose="evals",
            size_bytes=4,
            sha256=blob.sha256,
            format="chat",
            row_count=1,
        )
    database.close()
    return storage


def test_importing_the_application_imports_no_torch():
    code = f"import sys, api.app, api.bootstrap; assert not set(sys.modules) & set({HEAVY!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_is_in_a_file_never_reaches_the_log(running: Process):
    marker = "the-owner's-own-words"
    rows = f'{{"text": "{marker}\n{{"text": 7, "x": "{marker}"}}\n'
    refused = running.client.post(
        "/v1/files", data={"purpose": "pretrain"}, files={"file": ("rows.jsonl", rows.encode())}
    )
    assert refused.status_code == 400
    assert marker not in (running.home / "log").read_text()


def test_bootstrap_writes_private_files_and_running_it_again_changes_nothing(tmp_path):
    key = bootstrap(tmp_path)
    assert key.startswith("ty-")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert bootstrap(tmp_path) == key
    assert key.encode() not in (tmp_path / "trainyard.db").read_bytes()


def test_bootstrap_makes_a_new_key_when_the_old_one_is_lost(tmp_path):
    key = bootstrap(tmp_path)
    (tmp_path / "key").unlink()
    assert bootstrap(tmp_path) != key


def test_without_a_secret_the_service_says_how_to_get_one(tmp_path):
    with pytest.raises(ValueError, match=r"python -m api\.bootstrap"):
        create_app(ApiSettings(), StorageSettings(home=tmp_path))


def test_a_database_without_its_schema_is_not_ready_and_says_so(tmp_path):
    settings = ApiSettings(secret="s")
    with served_app(create_app(settings, StorageSettings(home=tmp_path), broker_url=BROKER_DOWN)) as url:
        answer = httpx.get(f"{url}/readyz", trust_env=False)
        assert answer.status_code == 503
        assert answer.json()["error"]["errors"][0]["path"] == "schema"
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200


@pytest.mark.parametrize("head", [b"FOO /v1/jobs HTTP/1.1\r\n", b"POST /v1/jobs HTTP/1.1\r\nContent-Length: -5\r\n"])
def test_what_is_not_http_is_refused_in_the_envelope(running: Process, head: bytes):
    with socket.create_connection((running.client.base_url.host, running.client.base_url.port or 0)) as connection:
        connection.settimeout(5)
        connection.sendall(head + b"host: x\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    told, _, body = answer.partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"x-request-id: req-" in told
    assert b'"code":"not_http"' in body


def test_sigterm_ends_the_process_at_once_though_a_stream_is_open(running: Process):
    job_id = running.client.post("/v1/jobs", json=pretrain_spec(text_file(running.client))).json()["id"]
    with running.client.stream("GET", f"/v1/jobs/{job_id}/stream") as answer:
        lines = answer.iter_lines()
        next(lines)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        list(lines)
    assert running.process.wait(10) == -signal.SIGTERM  # uvicorn cleans up, then lets the signal end it
    assert time.monotonic() - began < 5
