"""Our side of a training benchmark: `python -m engine` on a run directory, watched from outside."""

import json
import sys
import time
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

from benchmarks.harness.processes import cpu_s, running
from benchmarks.harness.service import REPOSITORY
from engine.data.corpus import Batch
from engine.journal import Journal
from engine.kinds.eval.spec import EvalSpec
from engine.loop import Training
from engine.rundir import RunDirectory
from engine.session import Session
from engine.stop import StopFlag

WARM_UP = 2
THREADS = {"OMP_NUM_THREADS": "1"}
"""One thread on both sides: a CPU second is then a second of one core that nothing else shares."""
_POLL_S = 0.005


class Measured(NamedTuple):
    """A run's steps after the warm-up: their units (tokens or pairs) and their cost, and the loss of every step."""

    units: float
    cpu_s: float
    wall_s: float
    losses: list[float]
    mfu: float | None = None

    @property
    def per_cpu_s(self) -> float:
        return self.units / self.cpu_s

    @property
    def per_wall_s(self) -> float:
        return self.units / self.wall_s

    def rate(self, clock: str) -> float:
        """Return units per second by a clock, `cpu` or `wall`."""
        return self.per_cpu_s if clock == "cpu" else self.per_wall_s


def write_run(root: Path, spec: dict[str, Any], data: str, *, base: Path, adapter: Path | None = None) -> Path:
    """Write a run directory; `data` is the content of the training file: rows as JSON lines."""
    (root / "data").mkdir(parents=True)
    (root / "job.json").write_text(json.dumps({"job_id": "bench", "attempt": 1, "spec": spec}))
    (root / "data" / "train.jsonl").write_text(data)
    (root / "model").symlink_to(base)
    if adapter is not None:
        (root / "adapter").symlink_to(adapter)
    return root


def steps_of(root: Path, steps: int) -> list[list[Batch]]:
    """Return the batch of each step of a run in this directory, which the peer is given too."""
    with closing(Journal(root / "order.jsonl")) as journal:
        session = Session.open(RunDirectory(root), journal, StopFlag())
        assert not isinstance(session.spec, EvalSpec)
        stream = Training(session, session.spec).stream
        return [stream.next_step() for _ in range(steps)]


def measure(root: Path, steps: int, unit: str) -> Measured:
    """Run the engine for that many steps and stop it; `unit` names the figure that counts units, or is `steps`."""
    command, log = [sys.executable, "-m", "engine", root], root / "engine.log"
    with running(command, log=log, environment=THREADS, folder=REPOSITORY) as process:
        first, cpu_before = _await_step(root, WARM_UP, process)
        last, cpu_after = _await_step(root, steps, process)
    events = _steps(root)[:steps]
    values = [event["values"] for event in events]
    units = float(steps - WARM_UP) if unit == "steps" else values[-1][unit] - values[WARM_UP - 1][unit]
    shares = sorted(value["mfu"] for value in values[WARM_UP:])
    wall_s = last["time"] - first["time"]
    return Measured(units, cpu_after - cpu_before, wall_s, [v["loss"] for v in values], shares[len(shares) // 2])


def _await_step(root: Path, step: int, process: Popen[bytes]) -> tuple[dict[str, Any], float]:
    """The event of a step, and the CPU-seconds that the process had used by then."""
    while True:
        found = _steps(root)
        if len(found) >= step:
            return found[step - 1], cpu_s([process.pid])
        if process.poll() is not None:
            raise RuntimeError(f"the engine ended at step {len(found)}:\n{(root / 'engine.log').read_text()[-2000:]}")
        time.sleep(_POLL_S)


def _steps(root: Path) -> list[dict[str, Any]]:
    path = root / "events.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    events = map(json.loads, whole.splitlines())
    return [event for event in events if event["type"] == "metrics" and event["split"] == "train"]
