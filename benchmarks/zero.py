"""ZeRO with two ranks on two cores: memory of each, the cost of cooperation, and a comparison with accelerate and DeepSpeed.

- memory: at each stage of ZeRO, the peak of tensor bytes of a rank in a full step, every allocation counted, against
  the plan of a rank (`engine.plan.ranks`).
- together: tokens per second of two ranks that sum their gradients, against those of two independent engines at the
  same time; each has one core and eight rows per step.
- peer: seconds of a step at stage 2, ours against a plain loop under accelerate with DeepSpeed, on the same rows in the
  same order with the same optimizer, both in bf16 over fp32 masters and both in fp32. The precision in which the peer is
  faster on this machine counts.

A 28M Llama on full rows of Shakespeare, memory and together in fp32; the ways of training take turns in each round.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from operator import truediv
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.harness import material
from benchmarks.harness.answers import hyperparameters
from benchmarks.harness.engine_side import WARM_UP, steps_of, write_run
from benchmarks.harness.processes import free_port, running
from benchmarks.harness.report import emit, versions
from benchmarks.harness.service import REPOSITORY
from benchmarks.pretrain import RATE, ROWS_PER_STEP, full_rows, rows_of

RANKS = 2
STAGES = (0, 1, 2, 3)
GOALS = {"memory": 0.10, "together": 0.85, "peer": 0.9}
PRECISIONS = {"bf16": "bf16", "fp32": "no"}
"""Our names of precisions, and accelerate's."""
_PEER_STAGE = 2
_ALONE = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
_SIDE = REPOSITORY / "benchmarks/children/accelerate_side.py"


def spec(ranks: int, stage: int, steps: int, precision: str) -> dict[str, Any]:
    """Rows with eight for each rank in every step."""
    given = hyperparameters(
        learning_rate=RATE, lr_scheduler_type="constant", precision=precision, max_steps=steps,
        gradient_accumulation_steps=ranks, weight_decay=0.0,
    )  # fmt: skip
    return {
        "kind": "pretrain",
        "model": "bench/1",
        "training_file": "file-bench",
        "validation_file": None,
        "hyperparameters": given,
        "checkpoints": {"save_steps": steps},
        "resources": {"device": "cpu", "nproc_per_node": ranks, "parallel": {"zero_stage": stage}},
    }


def ranks_of(command: list[str | Path], count: int, folder: Path) -> list[str]:
    """Run that many ranks of one program, one thread each, and return their outputs."""
    shared = _ALONE | {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environments = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return side_by_side([([sys.executable, *command], environment) for environment in environments], folder)


def side_by_side(commands: list[tuple[list[str | Path], dict[str, str]]], folder: Path) -> list[str]:
    """Run programs at the same time and return their outputs once all have ended."""
    with tempfile.TemporaryDirectory(dir=folder) as logs, ExitStack() as stack:
        paths = [Path(logs) / str(number) for number in range(len(commands))]
        started = [
            stack.enter_context(running(command, log=path, environment=environment, folder=REPOSITORY))
            for (command, environment), path in zip(commands, paths, strict=True)
        ]
        for process, path in zip(started, paths, strict=True):
            if process.wait():
                raise RuntimeError(f"{process.args} failed: {path.read_text()[-3000:]}")
        return [path.read_text() for path in paths]


def held_by_this_rank(root: Path) -> dict[str, int]:
    """In a rank: measure the bytes of its tensors in a full step, and return them with the planned ones."""
    from benchmarks.memory import in_a_full_step
    from engine.dist.ranks import Ranks
    from engine.journal import Journal
    from engine.rundir import RunDirectory
    from engine.session import Session
    from engine.stop import StopFlag

    run = RunDirectory(root)
    with closing(Journal(run.events_of(Ranks.here().rank))) as journal:
        plan, _, tensors = in_a_full_step(Session.open(run, journal, StopFlag()), lambda _: tensors_alive())
    return {"planned": plan.tensors, "tensors": tensors}


def tensors_alive() -> int:
    """Return the bytes of all tensors of this process: some of DeepSpeed's belong to neither model nor optimizer."""
    import gc

    import torch

    gc.collect()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        if issubclass(type(tensor), torch.Tensor) and tensor.device.type == "cpu"  # a dead proxy has no class to ask
    }
    return sum(storages.values())


class Bench:
    """The model, the rows and a folder for the runs."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.base, self.data = material.save_base(folder / "base"), full_rows()
        self.number = 0

    def run_directory(self, ranks: int, stage: int, steps: int, precision: str = "fp32") -> Path:
        self.number += 1
        asked = spec(ranks, stage, steps, precision)
        return write_run(self.folder / f"run-{self.number}", asked, self.data, base=self.base)

    def memory(self, stage: int) -> list[dict[str, int]]:
        """Measure the bytes of each rank against the plan."""
        root = self.run_directory(RANKS, stage, 1)
        told = ranks_of([Path(__file__), "--held", root], RANKS, self.folder)
        return [json.loads(one.splitlines()[-1]) for one in told]

    def together(self) -> float:
        """Measure tokens per second of two ranks."""
        return sum(self._rates([self.run_directory(RANKS, 0, self.steps)]))

    def apart(self) -> float:
        """Measure tokens per second of two independent engines at the same time."""
        return sum(self._rates([self.run_directory(1, 0, self.steps) for _ in range(RANKS)]))

    def ours(self, precision: str) -> float:
        """Measure the seconds of a step at the compared stage."""
        (rate,) = self._rates([self.run_directory(RANKS, _PEER_STAGE, self.steps, precision)])
        return RANKS * ROWS_PER_STEP * material.POSITIONS / rate

    def peer(self, precision: str) -> float:
        """Measure the seconds of a step of the peer."""
        task = self.folder / "task.json"
        order = steps_of(self.run_directory(1, 0, RANKS * self.steps), RANKS * self.steps)
        rows = [row["input_ids"] for row in rows_of(order, self.base)]
        size = RANKS * ROWS_PER_STEP
        steps = [rows[start : start + size] for start in range(0, len(rows), size)]
        asked = {
            "base": str(self.base),
            "stage": _PEER_STAGE,
            "precision": PRECISIONS[precision],
            "rows_of_rank": ROWS_PER_STEP,
            "rate": RATE,
            "decay": 0.0,
        }
        task.write_text(json.dumps(asked | {"steps": steps}))
        told = ranks_of([_SIDE, task], RANKS, self.folder)
        return mean(json.loads(told[0].splitlines()[-1])["seconds"][WARM_UP:])

    def _rates(self, roots: list[Path]) -> list[float]:
        """Measure tokens per second of engines that run at the same time, after their first steps."""
        side_by_side([([sys.executable, "-m", "engine", root], _ALONE) for root in roots], self.folder)
        return [_rate(root) for root in roots]


def _rate(root: Path) -> float:
    events = map(json.loads, (root / "events.jsonl").read_text().splitlines())
    steps = [event for event in events if event["type"] == "metrics" and event["split"] == "train"]
    first, last = steps[WARM_UP - 1], steps[-1]
    return (last["values"]["tokens"] - first["values"]["tokens"]) / (last["time"] - first["time"])


def rounds_of(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each way in each round, starting with another one each time, and return the results."""
    told: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        order = [*ways][number % len(ways) :] + [*ways][: number % len(ways)]
        for name in order:
            told[name].append(ways[name]())
            print(f"round {number + 1}: {name:<10} {told[name][-1]:,.2f}", flush=True)
    return told


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held", type=Path, help="measure this run in this process, one of several ranks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    if given.held is not None:
        print(json.dumps(held_by_this_rank(given.held)))
        return
    with tempfile.TemporaryDirectory(prefix="trainyard-zero-") as folder:
        bench = Bench(Path(folder), given.steps)
        errors = {}
        for stage in STAGES:
            found = bench.memory(stage)
            errors[stage] = max((rank["tensors"] / rank["planned"] - 1 for rank in found), key=abs)
            sizes = ", ".join(f"{rank['tensors'] / 2**20:.0f} of {rank['planned'] / 2**20:.0f} MiB" for rank in found)
            print(f"stage {stage}: {sizes} ({errors[stage]:+.1%})", flush=True)
        ways: dict[str, Callable[[], float]] = {"together": bench.together, "apart": bench.apart}
        for precision in PRECISIONS:
            ways |= {f"ours {precision}": partial(bench.ours, precision)}
            ways |= {f"peer {precision}": partial(bench.peer, precision)}
        told = rounds_of(ways, given.rounds)
    medians = {name: median(seen) for name, seen in told.items()}
    ratios = {
        precision: median(map(truediv, told[f"ours {precision}"], told[f"peer {precision}"]))
        for precision in PRECISIONS
    }
    best = min(PRECISIONS, key=lambda precision: medians[f"peer {precision}"])
    efficiency = median(map(truediv, told["together"], told["apart"]))
    worst = max(map(abs, errors.values()))
    emit({
        "name": "zero",
        "ours": {
            "worst_error_of_memory": round(worst, 4),
            "errors_by_stage": {stage: round(error, 4) for stage, error in errors.items()},
            "efficiency_of_two_ranks": round(efficiency, 3),
            "step_s": {precision: round(medians[f"ours {precision}"], 3) for precision in PRECISIONS},
        },
        "peer": {"step_s": {precision: round(medians[f"peer {precision}"], 3) for precision in PRECISIONS}},
        "ratio": ratios[best],
        "ratio_of": best,
        "ratios": {precision: round(ratio, 3) for precision, ratio in ratios.items()},
        "goal": f"a rank's tensors within {GOALS['memory']:.0%} of the plan at each stage; two ranks at least "
        f"{GOALS['together']:.0%} of two engines apart; ratio, our step over accelerate's at its quicker precision, at most {GOALS['peer']}",
        "holds": worst <= GOALS["memory"] and efficiency >= GOALS["together"] and ratios[best] <= GOALS["peer"],
        "versions": versions("torch", "transformers", "accelerate", "deepspeed"),
    })  # fmt: skip


if __name__ == "__main__":
    main()
