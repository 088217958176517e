"""One process under the supervisor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.child import Child, Program

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
)
PARENT = """
import sys, time
from pathlib import Path
from cli.child import Child, Program
child = Child(Program("sleeper", (sys.executable, "-c", "import time; time.sleep(60)")), Path(sys.argv[1]))
child.start()
print(child.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def until(truth, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if truth():
            return True
        time.sleep(0.02)
    return False


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_process_that_died_is_started_again(home: Path) -> None:
    child = Child(Program("sleeper", SLEEP), home)
    child.tend()
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    assert until(lambda: child.tend() == -signal.SIGKILL)
    assert until(lambda: child.tend() is None and child.process is not None)
    assert child.process.pid != first
    assert child.restarts == 1
    child.terminate()
    child.end(5)


def test_the_pause_grows_with_each_death_in_a_row(home: Path) -> None:
    child = Child(Program("fails", (sys.executable, "-S", "-c", "raise SystemExit(3)")), home)
    pauses = []
    for _ in range(3):
        child.start_after = 0.0
        child.tend()
        assert until(lambda: child.tend() == 3)
        pauses.append(child.start_after - time.time())
    assert pauses[0] < pauses[1] < pauses[2]


def test_what_ignores_sigterm_is_killed_after_its_grace(home: Path) -> None:
    child = Child(Program("stubborn", STUBBORN), home)
    child.start()
    assert child.process is not None
    assert until(lambda: "deaf" in (home / "logs" / "stubborn.log").read_text())
    child.terminate()
    assert child.end(0.2) is False
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_child_does_not_outlive_a_parent_that_was_killed(home: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(home)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert until(lambda: b"time.sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: gone(pid))
