"""The deadline: a run ends by itself when it has passed, with all its processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from engine import deadline
from tests import runs

_NEAR_S = 1.5


def start(root: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A real engine, as a worker starts it: in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "engine", str(root)],
        cwd=runs.ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def in_group(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    told = [_stat(path) for path in Path("/proc").glob("[0-9]*/stat")]
    return [stat[0] for stat in told if len(stat) > 2 and int(stat[2]) == group and stat[0] != "Z"]


def _stat(path: Path) -> list[str]:
    try:
        return path.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_whose_deadline_nobody_moves_on_is_killed_with_all_its_processes(tmp_path: Path, ranks: int) -> None:
    root = runs.write_job(tmp_path / "run", runs.sft_spec() | {"resources": {"nproc_per_node": ranks}})
    deadline.move(root, deadline.now_s() + _NEAR_S)
    process = start(root, TRAINYARD_PARENT_PID=str(os.getpid()))
    assert process.wait(30) == -signal.SIGKILL
    until = time.monotonic() + 5
    while in_group(process.pid) and time.monotonic() < until:  # they are killed at once, and take a moment to be gone
        time.sleep(0.05)
    assert in_group(process.pid) == []


def test_ranks_end_with_the_lease_though_their_launcher_stands_still(tmp_path: Path) -> None:
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(max_steps=100_000) | {"resources": {"nproc_per_node": 2}})
    deadline.move(root, deadline.now_s() + 60)
    process = start(root, TRAINYARD_PARENT_PID=str(os.getpid()))
    until = time.monotonic() + 30
    while len([pid for pid in pids_in(process.pid) if threads_of(pid) > 1]) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    deadline.move(root, deadline.now_s())
    try:
        assert process.wait(10) == -signal.SIGKILL
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def pids_in(group: int) -> list[int]:
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _stat(path)[2:3] == [str(group)]]


def threads_of(pid: int) -> int:
    """The second of a process that watches its deadline is what watches."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except FileNotFoundError:
        return 0


def test_a_deadline_that_is_moved_on_ends_nothing(tmp_path: Path) -> None:
    deadline.move(tmp_path, deadline.now_s() + _NEAR_S)
    program = "import sys, time; from pathlib import Path; from engine import deadline\n"
    program += "deadline.Watch(Path(sys.argv[1])); print('watched', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=runs.ROOT, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(20):
            deadline.move(tmp_path, deadline.now_s() + _NEAR_S)
            time.sleep(0.1)
        assert process.poll() is None
        assert process.wait(30) == -signal.SIGKILL


def test_a_watch_that_pauses_has_no_thread_and_goes_on_afterwards(tmp_path: Path) -> None:
    deadline.move(tmp_path, deadline.now_s() + 60)
    program = "import os, sys, time; from pathlib import Path; from engine import deadline\n"
    program += "tasks, root = Path('/proc/self/task'), Path(sys.argv[1])\n"
    program += "watch = deadline.Watch(root); watched = len([*tasks.iterdir()])\n"
    program += "with watch.paused():\n"
    program += "    until = time.monotonic() + 10\n"
    program += "    while len([*tasks.iterdir()]) > 1 and time.monotonic() < until: time.sleep(0.01)\n"  # joined is nearly gone
    program += "    print(watched, len([*tasks.iterdir()]), flush=True)\n"
    program += "deadline.move(root, deadline.now_s()); time.sleep(60)"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=runs.ROOT, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.communicate(timeout=30)[0] == b"2 1\n"
        assert process.returncode == -signal.SIGKILL


def test_a_person_may_run_what_a_worker_has_left(tmp_path: Path) -> None:
    deadline.move(tmp_path, deadline.now_s() - 1)
    given = {name: value for name, value in os.environ.items() if name != "TRAINYARD_PARENT_PID"}
    command = [sys.executable, "-m", "engine", str(tmp_path)]
    told = subprocess.run(
        command, cwd=runs.ROOT, env=given, capture_output=True, timeout=60, start_new_session=True, check=False
    )
    assert told.returncode > 0, "it says that there is no job.json"
