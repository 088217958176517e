"""A run of several processes of which one is killed, hangs or is asked to stop: it ends at once and goes on exactly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EXIT_BUG, EXIT_STOPPED
from tests import runs

STEPS = 40
WITHIN_S = 20.0
"""Of a machine that others use too."""


def shared_run(root: Path, timeout_s: float = 60, steps: int = STEPS) -> Path:
    spec = runs.sft_spec(max_steps=steps, precision="fp32", learning_rate=0.002)
    resources = {"device": "cpu", "nproc_per_node": 2, "ddp_timeout": timeout_s}
    return runs.sft_run(root, spec=spec | {"checkpoints": {"save_steps": 5}, "resources": resources})


def last_step(root: Path) -> int:
    return max(runs.losses(root), default=0) if (root / "events.jsonl").exists() else 0


def rank_of(launcher: int, rank: int) -> int:
    """The process id of a rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    names = {Path(f"/proc/{child}/comm").read_text(): int(child) for child in children}
    return names[f"rank {rank}\n"]


class Shared:
    """A run on two ranks that is going on."""

    def __init__(self, root: Path, until: int) -> None:
        self.root = root
        self.process = runs.fork(root)
        self.launcher = self.process.pid
        assert self.launcher is not None
        while last_step(root) < until and self.process.is_alive():
            time.sleep(0.01)
        assert self.process.is_alive(), runs.events(root)[-1]
        self.ranks = [rank_of(self.launcher, rank) for rank in (0, 1)]
        self.asked_at = time.monotonic()

    def ended(self) -> int | None:
        self.process.join(60)
        assert time.monotonic() - self.asked_at < WITHIN_S
        assert not any(Path(f"/proc/{rank}").exists() for rank in self.ranks)
        return self.process.exitcode


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """Of its ranks the second is killed after step 6; what goes on is asked to stop after step 20, and goes on again."""
    root = shared_run(tmp_path_factory.mktemp("lost") / "run")
    begun = Shared(root, until=6)
    os.kill(begun.ranks[1], signal.SIGKILL)
    assert begun.ended() == EXIT_BUG
    gone_on = Shared(root, until=20)
    gone_on.process.terminate()
    assert gone_on.ended() == EXIT_STOPPED
    process = runs.fork(root)
    process.join(120)
    assert process.exitcode == 0
    return root


def test_a_killed_rank_ends_the_run_and_is_named(interrupted):
    failed = runs.events(interrupted, "failed")[-1]
    assert (failed["failure"], failed["code"]) == ("worker_lost", "rank_lost")
    assert failed["message"] == "rank 1 of 2 was killed (SIGKILL); the others were ended"


def test_asked_to_stop_all_ranks_stop_at_one_step_and_save_it(interrupted):
    (stopped,) = runs.events(interrupted, "stopped")
    assert stopped["step"] in [event["step"] for event in runs.events(interrupted, "checkpoint")]
    assert runs.events(interrupted, "started")[-1]["start_step"] == stopped["step"]


def test_a_run_that_lost_a_rank_goes_on_to_the_curve_of_the_undisturbed_one(interrupted, tmp_path):
    whole = shared_run(tmp_path / "run")
    assert runs.carry_out(whole) == 0
    assert runs.losses(interrupted) == pytest.approx(runs.losses(whole), rel=1e-6)


def test_one_rank_alone_writes_events_and_every_line_is_an_event(interrupted):
    assert [event["seq"] for event in runs.events(interrupted)] == list(range(1, len(runs.events(interrupted)) + 1))


def test_a_rank_that_does_not_answer_ends_the_run(tmp_path):
    begun = Shared(shared_run(tmp_path / "run", timeout_s=2), until=3)
    os.kill(begun.ranks[1], signal.SIGSTOP)
    assert begun.ended() == EXIT_BUG
    failed = runs.events(begun.root, "failed")[-1]
    assert (failed["failure"], failed["code"]) == ("worker_lost", "touch_lost")
    assert "does not answer" in failed["message"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="each rank needs a core of its own")
def test_a_rank_that_shares_its_core_with_others_is_named_as_slow(tmp_path):
    begun = Shared(shared_run(tmp_path / "run", steps=1000), until=3)
    cores = sorted(os.sched_getaffinity(0))
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    slow: list[dict[str, Any]] = []
    try:
        for pid, core in [*zip(begun.ranks, cores, strict=False), *((process.pid, cores[1]) for process in spinning)]:
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {core})
        while 1 not in [event["data"]["rank"] for event in slow]:  # the other one's core has the machine's other work
            assert begun.process.is_alive(), slow
            time.sleep(0.05)
            slow = [event for event in runs.events(begun.root, "log") if event["code"] == "slow_rank"]
    finally:
        begun.process.kill()
        for process in spinning:
            process.kill()
            process.wait()


@pytest.mark.parametrize("after_s", [0.0, 0.1])
def test_asked_to_stop_while_its_ranks_begin_a_run_has_not_failed(tmp_path, after_s):
    root = shared_run(tmp_path / "run", steps=1000)
    process = runs.fork(root)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2:
        time.sleep(0.01)
    time.sleep(after_s)
    process.terminate()
    process.join(60)
    assert process.exitcode == EXIT_STOPPED
    assert not runs.events(root, "failed")


def test_a_signal_that_meets_a_death_leaves_the_launcher_its_exit_code():
    code = (
        "import subprocess\n"
        "from engine.dist import launch\n"
        "processes = [subprocess.Popen(['sleep', '100']) for _ in range(2)]\n"
        "launch._pass_on_signals(processes)\n"
        "print(*[process.pid for process in processes], flush=True)\n"
        "print(sorted(launch._failures(processes).items()))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        ranks = [int(pid) for pid in launcher.stdout.readline().split()]
        launcher.send_signal(signal.SIGSTOP)
        for rank in ranks:
            os.kill(rank, signal.SIGKILL)
        launcher.terminate()
        launcher.send_signal(signal.SIGCONT)
        assert launcher.stdout.read() == "[(0, -9), (1, -9)]\n"


def test_a_failure_of_one_rank_waits_for_the_checkpoint_that_the_first_is_writing(tmp_path):
    (tmp_path / "checkpoints" / ".writing-1").mkdir(parents=True)
    first = "sleep 1; mv checkpoints/.writing-1 checkpoints/step-1; sleep 0.2; touch told; exec sleep 60"
    code = (
        "import subprocess\n"
        "from pathlib import Path\n"
        "from engine.dist import launch\n"
        "from engine.rundir import RunDirectory\n"
        "launch._GRACE_S = 0.4\n"
        f"processes = [subprocess.Popen(['sh', '-c', {first!r}], cwd={str(tmp_path)!r}), subprocess.Popen(['false'])]\n"
        f"launch._end_by_alarm(processes, RunDirectory(Path({str(tmp_path)!r})))\n"
        "print(launch._failures(processes))\n"
    )
    begun_at = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=runs.ROOT, capture_output=True, text=True, check=True)
    assert time.monotonic() - begun_at < WITHIN_S, "what does not end is killed all the same"
    assert done.stdout == "{1: 1}\n"
    assert (tmp_path / "told").exists()
