"""The engine as a process of its own: waiting, signals, and dying with its parent."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import EXIT_CANCELLED, EXIT_OK, EXIT_STOPPED
from tests import runs

LONG = 100_000
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    spec = runs.sft_spec(max_steps=LONG)
    spec["checkpoints"] = {"save_steps": LONG}
    return runs.sft_run(tmp_path_factory.mktemp("process") / "run", spec=spec)


@pytest.fixture
def running(prepared, tmp_path) -> tuple[subprocess.Popen[str], Path]:
    """A process that was waiting, was given a long run and has taken a step of it."""
    root = Path(shutil.copytree(prepared, tmp_path / "run"))
    process = runs.start("--wait", TRAINYARD_PARENT_PID=str(os.getpid()))
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write(f"{root}\n")
    process.stdin.flush()
    until = time.monotonic() + TIMEOUT_S
    while not (root / "events.jsonl").exists() or not runs.events(root, "metrics"):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    return process, root


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=TIMEOUT_S)
    return process.returncode


def test_sigterm_saves_a_checkpoint_and_the_run_goes_on_from_it(running):
    process, root = running
    process.send_signal(signal.SIGTERM)
    assert ended(process) == EXIT_STOPPED
    stopped = runs.events(root)[-1]
    saved = runs.events(root, "checkpoint")[-1]
    assert stopped["type"] == "stopped"
    assert saved["step"] == stopped["step"]
    assert (root / saved["path"] / "state").is_dir()


def test_sigint_ends_the_run_at_once_with_nothing_saved(running):
    process, root = running
    process.send_signal(signal.SIGINT)
    assert ended(process) == EXIT_CANCELLED
    assert not (root / "checkpoints").exists()


def test_a_waiting_process_ends_when_its_input_does():
    process = runs.start("--wait")
    assert ended(process) == EXIT_OK


def test_a_process_whose_parent_is_gone_does_nothing(tmp_path):
    process = runs.start(str(tmp_path), TRAINYARD_PARENT_PID="1")
    assert ended(process) == 1
    assert not (tmp_path / "events.jsonl").exists()


def test_a_process_dies_with_its_parent(tmp_path):
    script = (
        "import os, subprocess, sys\n"
        "env = os.environ | {'TRAINYARD_PARENT_PID': str(os.getpid())}\n"
        "reader, writer = os.pipe()\n"  # the child holds both ends: its input never ends by itself
        "child = subprocess.Popen([sys.executable, '-m', 'engine', '--wait'], env=env,"
        " stdin=reader, pass_fds=[writer], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", script], cwd=runs.ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    child = int(parent.stdout)
    until = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < until
        time.sleep(0.02)
