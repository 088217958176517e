"""Ranks that are forked off their launcher: each is what a process of its own would be, and trains what that trains."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.errors import EXIT_BUG, EXIT_OK
from tests import runs

STEPS = 60
_SIGNALS = (1 << 31) - 1
"""Those that have names; what comes after is the C library's own."""
FORKS = ["-m", "engine", "--wait"]
WITHOUT_FORKS = (
    "import sys; from engine.dist import forking; forking.can_fork = lambda: False\n"
    "from engine.__main__ import main; sys.exit(main(['--wait']))"
)
SPAWNS = ["-c", WITHOUT_FORKS]
"""What a machine with a GPU does."""


class Done(NamedTuple):
    """A run of two ranks, what could be seen of the second, and the warm engine's own threads as it was given the run."""

    root: Path
    seen: dict[str, str]
    command: bytes
    threads: int


def carried_out(root: Path, arguments: list[str]) -> Done:
    resources = {"device": "cpu", "nproc_per_node": 2}
    runs.sft_run(root, spec=runs.sft_spec(max_steps=STEPS, precision="fp32") | {"resources": resources})
    given = {
        name: value for name, value in os.environ.items() if name not in {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    }
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=runs.ROOT, env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        threads = len([*Path(f"/proc/{engine.pid}/task").iterdir()])
        engine.stdin.write(f"{root}\n")
        engine.stdin.flush()
        while not ((root / "events.jsonl").exists() and runs.losses(root)):
            assert engine.poll() is None
            time.sleep(0.01)
        children = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()
        (rank,) = (Path("/proc", child) for child in children if Path("/proc", child, "comm").read_text() == "rank 1\n")
        done = Done(root, seen(rank), (rank / "cmdline").read_bytes(), threads)
        engine.stdin.close()
        assert engine.wait(120) == EXIT_OK
    return done


def seen(process: Path) -> dict[str, str]:
    """Which signals are blocked, ignored and handled, and the input."""
    told = dict(line.split(":\t") for line in (process / "status").read_text().splitlines())
    masks = {name: f"{int(told[name], 16) & _SIGNALS:b}" for name in ("SigBlk", "SigIgn", "SigCgt")}
    return masks | {"input": str((process / "fd/0").readlink())}


@pytest.fixture(scope="module")
def forked(tmp_path_factory) -> Done:
    return carried_out(tmp_path_factory.mktemp("forked") / "run", FORKS)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Done:
    return carried_out(tmp_path_factory.mktemp("fresh") / "run", SPAWNS)


def test_nothing_that_an_engine_imports_starts_a_thread(forked):
    assert forked.threads == 1, "what another thread was about to do stays half done in a fork"


def test_an_engine_that_waited_forks_its_ranks_where_there_is_no_gpu(forked, fresh):
    assert forked.command.endswith(b"--wait\0")
    assert fresh.command.endswith(f"{fresh.root}\0".encode())


def test_a_forked_rank_has_the_signals_and_the_input_of_a_fresh_one(forked, fresh):
    assert forked.seen == fresh.seen
    assert forked.seen["input"] == os.devnull


def test_forked_ranks_train_what_fresh_ones_train_with_as_many_threads(forked, fresh):
    assert runs.losses(forked.root) == runs.losses(fresh.root)
    told = [runs.events(done.root, "started")[0] for done in (forked, fresh)]
    assert told[0]["device"] == told[1]["device"]


def test_what_a_forked_rank_holds_besides_the_run_is_not_more_than_a_fresh_one_does(forked, fresh):
    held = [
        next(event["data"] for event in runs.events(done.root, "log") if event["code"] == "memory_measured")
        for done in (forked, fresh)
    ]
    assert held[0]["runtime"] <= held[1]["runtime"]
    assert held[0]["weights"] == held[1]["weights"]


def test_a_rank_that_cannot_be_forked_ends_the_run_and_the_others(tmp_path):
    resources = {"device": "cpu", "nproc_per_node": 3}
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(max_steps=100_000) | {"resources": resources})
    code = (
        "import os, sys\n"
        "from engine.__main__ import main\n"
        "from engine.dist import forking\n"
        "forking.prepare = lambda **_: None\n"  # it takes seconds, and none of them comes so far as to need it
        "fork, left = os.fork, [True, True]\n"
        "def fork_twice():\n"
        "    if left:\n"
        "        left.pop()\n"
        "        return fork()\n"
        "    raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "os.fork = fork_twice\n"
        "sys.exit(main([sys.argv[1]]))\n"
    )
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, cwd=runs.ROOT, check=False, timeout=60, start_new_session=True, capture_output=True)
    assert done.returncode == EXIT_BUG, done.stderr
    (failed,) = runs.events(root, "failed")
    assert (failed["failure"], failed["code"]) == ("worker_lost", "rank_lost")
    assert failed["message"].startswith("only 2 of 3 processes started: ")
