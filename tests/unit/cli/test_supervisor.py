"""The supervisor: what it says may fail, what it stops may not."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.errors import CommandError, Exit
from cli.supervisor import Supervisor
from cli.up import stop_within_s
from workers.settings import WorkerSettings

STOPPED = """
import sys, time
from pathlib import Path
from cli.child import Child, Program
from cli.output import say
from cli.supervisor import Supervisor

home = Path(sys.argv[1])
supervisor = Supervisor(home, 1, 2, home / "credentials", say)
worker = (sys.executable, "-S", "-c", sys.argv[2], str(home))
supervisor.worker = Child(Program("worker", worker, 100), home)
supervisor.worker.start()
while not (home / "started").exists():
    time.sleep(0.01)
supervisor._write_state()
print("up", flush=True)
sys.stdin.readline()
supervisor._stop()
"""
SAVES = """
import signal, sys, time
from pathlib import Path

home = Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: ((home / "saved").touch(), sys.exit()))
(home / "started").touch()
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("TRAINYARD_BROKER_URL", "redis://127.0.0.1:1/0")
    return tmp_path


def supervisor(home: Path, tell=lambda _: None) -> Supervisor:
    return Supervisor(home, 1, 2, home / "credentials", tell)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_worker_saves_although_nobody_reads_any_more_what_the_supervisor_says(home: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(home), SAVES]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process:
        assert process.stdout.readline() == "up\n"
        process.stderr.close()
        process.stdin.write("stop\n")
        process.stdin.flush()
        process.wait(150)
    assert (home / "saved").exists()
    assert not (home / "up.json").exists()


def test_a_full_disk_ends_no_service(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = supervisor(home, full)
    with monkeypatch.context() as while_full:
        while_full.setattr("cli.supervisor.write_state", full)
        running._write_state()
        running.ready = True
        running._report_death(running.api, 1)
    running._write_state()
    assert json.loads((home / "up.json").read_text())["ready"] is True


def test_the_hangup_that_a_shell_passes_on_skips_no_graces(home: Path) -> None:
    running = supervisor(home)
    for _ in range(2):
        running._request_stop(signal.SIGHUP, None)
    assert running.stop_requests == 1
    running._request_stop(signal.SIGINT, None)
    assert running.stop_requests == 2


def test_the_api_is_on_loopback_whatever_the_operator_has_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HOST", "0.0.0.0")  # noqa: S104 - what must have no effect
    assert supervisor(home).api.program.environment["TRAINYARD_HOST"] == "127.0.0.1"


def test_a_worker_has_the_time_to_save_and_to_store_what_it_saved(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINYARD_STOP_GRACE_S", raising=False)
    default_s = WorkerSettings.model_fields["stop_grace_s"].default
    assert supervisor(home).worker.program.grace_s == default_s + 60
    monkeypatch.setenv("TRAINYARD_STOP_GRACE_S", "300")
    longer = supervisor(home)
    assert longer.worker.program.grace_s == 360
    longer._write_state()
    assert stop_within_s(home) == longer.stop_s > 360


def test_a_grace_that_is_no_number_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_STOP_GRACE_S", "long")
    with pytest.raises(CommandError, match="TRAINYARD_STOP_GRACE_S=long") as caught:
        supervisor(home)
    assert caught.value.code is Exit.USAGE
