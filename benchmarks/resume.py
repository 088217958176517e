"""The cost of checkpoints at the default interval, and the time to resume from one against a fresh start.

A 28M Llama is tuned on GSM8K's rows, in full and with LoRA, and saves ten times. A checkpoint costs a run two things:

- time in which the loop stands still: while the state to save is collected, while an update waits until it has been
  copied, and while the last checkpoint becomes durable; as a share of the time from the first step to the last
  checkpoint;
- CPU time of the writing thread, taken from the training; as a share of the CPU-seconds of that time.

Both have goals. CPU-seconds are comparable between machines that are busy with other work as well. Then the time and
the CPU-seconds from the start of a process to its first step are measured, afresh and from the last checkpoint but one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.harness.material import LORA, conversations, save_base
from benchmarks.harness.processes import REPOSITORY
from benchmarks.harness.report import emit

_GOAL = 0.03
_TUNINGS: dict[str, dict[str, Any]] = {"lora": {"method": "lora", **LORA}, "full": {"method": "full"}}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """The seconds of a run and of its checkpoints."""

    run_s: float
    waited_s: float
    run_cpu_s: float
    saving_cpu_s: float

    @property
    def share(self) -> float:
        """The larger of the two shares."""
        return max(self.waited_s / self.run_s, self.saving_cpu_s / self.run_cpu_s)


class FirstStep(NamedTuple):
    """The time from the start of a process to its first step."""

    seconds: float
    cpu_s: float


class Clock:
    """Sum the time of calls, without nested ones, and the CPU-seconds of their threads."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0
        self._depth = 0

    def around(self, place: Any, name: str) -> None:
        act: Callable[..., Any] = getattr(place, name)

        def timed(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter(), time.thread_time()
            self._depth += 1
            try:
                return act(*given, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.wall_s += time.perf_counter() - begun[0]
                    self.cpu_s += time.thread_time() - begun[1]

        setattr(place, name, timed)


def measure_here(folder: Path) -> Cost:
    """Carry out the run in this process."""
    from engine import process
    from engine.loop import Training
    from engine.saver import Saver
    from engine.stop import StopFlag

    loop, aside, whole = Clock(), Clock(), list[tuple[float, float]]()
    for place, name in ((Training, "_save"), (Saver, "until_read"), (Saver, "finish")):
        loop.around(place, name)
    aside.around(Saver, "_save")
    step, carry_out = Training._step, Training.carry_out  # noqa: SLF001 - the parts of the real loop

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def noted_step(self: Training) -> None:
        if not whole:
            whole.append(now())
        step(self)

    def noted(self: Training) -> None:
        carry_out(self)
        whole.append(now())

    Training._step, Training.carry_out = noted_step, noted  # noqa: SLF001
    assert process.carry_out(folder, StopFlag()) == 0, f"see {folder}"
    (begun_s, begun_cpu_s), (ended_s, ended_cpu_s) = whole
    return Cost(ended_s - begun_s, loop.wall_s, ended_cpu_s - begun_cpu_s, loop.cpu_s + aside.cpu_s)


def cost_of(folder: Path) -> Cost:
    command = [sys.executable, __file__, "--run", str(folder)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Cost(*json.loads(told.splitlines()[-1]))


def lay_out(folder: Path, base: Path, tuning: dict[str, Any], steps: int) -> Path:
    spec = {
        "kind": "sft",
        "model": "base/1",
        "training_file": "file-1",
        "validation_file": None,
        "tuning": tuning,
        "hyperparameters": {"max_steps": steps, "per_device_train_batch_size": 4, "max_length": 256},
    }
    shutil.copytree(base, folder / "model")
    (folder / "job.json").write_text(json.dumps({"job_id": "job-1", "attempt": 1, "spec": spec}))
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in conversations(1000)))
    return folder


def first_step(folder: Path) -> FirstStep:
    """Measure the first step of the run in the folder, then kill the process and remove the folder."""
    begun_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "engine", str(folder)], cwd=REPOSITORY)
    events = folder / "events.jsonl"
    while not events.exists() or '"split": "train"' not in events.read_text():
        assert process.poll() is None, f"the run ended early: see {folder}"
        time.sleep(0.02)
    seconds, cpu_s = time.perf_counter() - begun_s, cpu_of(process.pid)
    process.kill()
    process.wait()
    shutil.rmtree(folder)
    return FirstStep(seconds, cpu_s)


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def starts(made: Callable[[Path], Path], saved: Path, place: Path, rounds: int) -> dict[str, FirstStep]:
    """Measure fresh starts and resumes in turn; return the medians."""
    found: dict[str, list[FirstStep]] = {"start": [], "resume": []}
    for _ in range(rounds):
        for name, one in found.items():
            folder = made(place)
            if name == "resume":
                shutil.copytree(saved, folder / "checkpoints" / saved.name)
            one.append(first_step(folder))
    return {name: FirstStep(*(median(figures) for figures in zip(*one, strict=True))) for name, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=150, help="of a run; the fewer, the more its ten checkpoints weigh"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of starts, whose medians are told")
    parser.add_argument("--run", type=Path, help="measure the run in this folder in this process")
    options = parser.parse_args()
    if options.run is not None:
        print(json.dumps(measure_here(options.run)))
        return
    ours: dict[str, dict[str, Any]] = {}
    worst = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        base = save_base(place / "base")
        for name, tuning in _TUNINGS.items():

            def made(folder: Path, tuning: dict[str, Any] = tuning) -> Path:
                folder.mkdir()
                return lay_out(folder, base, tuning, options.steps)

            cost = cost_of(made(place / name))
            saved = sorted((place / name / "checkpoints").glob("step-*"))[-2]
            begun = starts(made, saved, place / "first", options.rounds)
            worst = max(worst, cost.share)
            ours[name] = {**cost._asdict(), **{which: one._asdict() for which, one in begun.items()}}
            print(
                f"{name}: for ten checkpoints the loop stood still {cost.waited_s:.2f} s of {cost.run_s:.0f} s "
                f"({cost.waited_s / cost.run_s:.2%}), and {cost.saving_cpu_s:.2f} of {cost.run_cpu_s:.0f} CPU-seconds "
                f"went into them ({cost.saving_cpu_s / cost.run_cpu_s:.2%}); to the first step "
                f"{begun['start'].seconds:.1f} s and {begun['start'].cpu_s:.1f} CPU-seconds afresh, "
                f"{begun['resume'].seconds:.1f} s and {begun['resume'].cpu_s:.1f} gone on with",
                flush=True,
            )
    emit({
        "name": "resume",
        "ours": ours,
        "peer": None,
        "ratio": worst,
        "goal": f"checkpoints take at most {_GOAL:.0%} of a run, of its time and of its CPU-seconds",
        "holds": worst <= _GOAL,
    })  # fmt: skip


if __name__ == "__main__":
    main()
