"""Training, ours and the peer in turn in one run: search the peer's best setting, measure in rounds, compare curves."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

from benchmarks.harness import engine_side, material
from benchmarks.harness.engine_side import THREADS, WARM_UP, Measured
from benchmarks.harness.report import emit, versions
from benchmarks.harness.service import REPOSITORY
from engine.data.corpus import Batch

PROBE_STEPS = WARM_UP + 2
NOISE = 2.0**-8
"""The tolerance of the mean loss: one rounding of bf16, which every matmul of both sides does in its own order."""
_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")

Settings = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Contest:
    """A benchmark; `rows_of` converts the engine's batch of each step into rows for the peer."""

    name: str
    spec: Settings
    data: str
    rows_of: Callable[[list[list[Batch]], Path], Rows]
    given: Settings
    """Settings of every run of the peer, so that both do the same."""
    known: dict[str, Settings]
    """The peer's settings that are always measured, by name; the first takes the engine's rows step by step."""
    goals: dict[str, float]
    """Goals of the ratio of ours to the peer, by setting; `best` is the one that the search finds."""
    stages: list[dict[str, Settings]] = field(default_factory=list)
    """The stages of the search: the best of each is kept, and the next is applied on top."""
    unit: str = "tokens"
    units_per_step: float | None = None
    """Units per step where the peer does not count them itself."""
    utilization_goal: float | None = None
    steps: int = 8
    """Steps of every measured run, of which the first two are not counted."""
    clock: Literal["cpu", "wall"] = "cpu"
    """The clock that counts: CPU time, or wall-clock time where a GPU does the work."""
    device: Literal["cpu", "cuda"] = "cpu"
    save_base: Callable[[Path], Path] = material.save_base
    keeps: bool = False
    """Whether the result is also saved."""

    @property
    def method(self) -> str:
        return self.spec.get("tuning", {"method": "full"})["method"]


class Race:
    """A contest in a folder: base, adapter, and rows in the engine's order."""

    def __init__(self, contest: Contest, folder: Path, steps: int) -> None:
        self.contest, self.folder, self.steps = contest, folder, steps
        self.base = contest.save_base(folder / "base")
        self.adapter = None if contest.method == "full" else material.save_adapter(folder / "adapter", self.base)
        first = self._run_directory(folder / "order")
        self.rows = contest.rows_of(engine_side.steps_of(first, steps), self.base)
        self.number = 0

    def _run_directory(self, root: Path) -> Path:
        spec = self.contest.spec | {"checkpoints": {"save_steps": self.steps}, "validation_file": None}
        spec["hyperparameters"] = spec["hyperparameters"] | {"max_steps": self.steps}
        engine_side.write_run(root, spec, self.contest.data, base=self.base, adapter=self.adapter)
        reference = self.folder / "order" / "reference"
        if reference.exists():  # what pairs are compared with: computed once, before any step, on both sides
            shutil.copytree(reference, root / "reference")
        return root

    def ours(self) -> Measured:
        self.number += 1
        root = self._run_directory(self.folder / f"ours-{self.number}")
        unit = "tokens" if self.contest.unit == "tokens" else "steps"
        run = engine_side.measure(root, self.steps, unit)
        return run if unit == "tokens" else run._replace(units=run.units * (self.contest.units_per_step or 1.0))

    def theirs(self, runs: dict[str, Settings], steps: int) -> dict[str, Measured]:
        """Measure the peer with each setting, one after the other in one process; settings that fail are reported."""
        contest, task_file, results_file = self.contest, self.folder / "task.json", self.folder / "results.jsonl"
        task = {
            "kind": contest.spec["kind"],
            "method": contest.method,
            "device": contest.device,
            "base": str(self.base),
            "adapter": None if self.adapter is None else str(self.adapter),
            "rows": self.rows,
            "settings": contest.given,
            "runs": [{"name": name, "steps": steps, "settings": settings} for name, settings in runs.items()],
        }
        task_file.write_text(json.dumps(task))
        with (self.folder / "peer.log").open("w") as log:
            command = [sys.executable, REPOSITORY / "benchmarks/children/trainer_side.py", task_file, results_file]
            environment = {**os.environ, **THREADS, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"the peer failed:\n{(self.folder / 'peer.log').read_text()[-3000:]}")
        results = map(json.loads, results_file.read_text().splitlines())
        return {result["name"]: self._figures(result) for result in results}

    def _figures(self, result: dict[str, Any]) -> Measured:
        cpu_s, wall_s, tokens = result["cpu_s"], result["wall_s"], result["tokens"]
        per_step = self.contest.units_per_step
        counted = per_step * (len(cpu_s) - WARM_UP) if per_step is not None else tokens[-1] - tokens[WARM_UP - 1]
        return Measured(counted, cpu_s[-1] - cpu_s[WARM_UP - 1], wall_s[-1] - wall_s[WARM_UP - 1], result["losses"])

    def their(self, name: str, settings: Settings) -> Measured:
        """Measure the peer with one setting, in its own process."""
        found = self.theirs({name: settings}, self.steps)
        if name not in found:
            raise RuntimeError(f"the peer's setting {name!r} does not fit in memory; give it fewer rows a batch")
        return found[name]

    def probe(self, runs: dict[str, Settings]) -> dict[str, float]:
        """Return the rate of each setting in a few steps, for those that fit in memory."""
        return {name: run.rate(self.contest.clock) for name, run in self.theirs(runs, PROBE_STEPS).items()}


def search(contest: Contest, probe: Callable[[dict[str, Settings]], dict[str, float]]) -> tuple[str, Settings]:
    """Find the fastest setting of the stages by short probes; the first known one if nothing else fits in memory."""
    known, best = next(iter(contest.known.items()))
    names: list[str] = []
    best_rate = 0.0
    for stage in contest.stages:
        rates = probe({name: best | settings for name, settings in stage.items()})
        for name in stage:
            told = f"{rates[name]:>8.1f} per {contest.clock}-s" if name in rates else "does not fit in memory"
            print(f"search: {' + '.join([*names, name]):<60} {told}", flush=True)
        winner = max(rates, key=lambda name: rates[name], default=None)
        if winner is not None and rates[winner] > best_rate:
            best_rate, best = rates[winner], best | stage[winner]
            names.append(winner)
    return " + ".join(names) or known, best


def run(contest: Contest, arguments: list[str] | None = None) -> None:
    """Run the whole benchmark; its last line is the result. `arguments` default to the command line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the engine is stopped then too
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=contest.steps)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder:
        race = Race(contest, Path(folder), options.steps)
        settings = dict(contest.known)
        best = None
        if contest.stages:
            best, settings["best"] = search(contest, race.probe)
            print(f"best setting of the peer: {best}", flush=True)
        runs = _rounds(race, settings, options.rounds)
    _report(contest, runs, best)


def _rounds(race: Race, settings: dict[str, Settings], rounds: int) -> dict[str, list[Measured]]:
    """Run every side in every round, each in its own process, starting with another one each time."""
    runs: dict[str, list[Measured]] = {name: [] for name in ("ours", *settings)}
    for number in range(rounds):
        sides = list(runs)
        for name in sides[number % len(sides) :] + sides[: number % len(sides)]:
            done = race.ours() if name == "ours" else race.their(name, settings[name])
            runs[name].append(done)
            print(
                f"round {number + 1} {name:<14} {done.per_cpu_s:>9.2f} {race.contest.unit} per CPU-s "
                f"({done.per_wall_s:.2f}/s), last loss {done.losses[-1]:.4f}",
                flush=True,
            )
    return runs


def _report(contest: Contest, runs: dict[str, list[Measured]], best: str | None) -> None:
    rates = {name: median(run.rate(contest.clock) for run in done) for name, done in runs.items()}
    walls = {name: median(run.per_wall_s for run in done) for name, done in runs.items()}
    ours, peers = rates.pop("ours"), rates
    quickest = max(peers, key=lambda name: peers[name])
    if best is not None and quickest != "best":
        # Probes are short: what won them may lose the rounds (torch.compile goes on compiling for new shapes).
        best, peers["best"], walls["best"] = quickest, peers[quickest], walls[quickest]
    ratios = {name: ours / rate for name, rate in peers.items()}
    same = next(iter(contest.known))
    curve, other = runs["ours"][0].losses, runs[same][0].losses
    apart = mean(abs(a - b) for a, b in zip(curve, other, strict=True))
    print(f"loss curves on the same rows: ours {_ends(curve)}, {same} {_ends(other)}, mean difference {apart:.5f}")
    print("wall-clock ratios: " + ", ".join(f"{name} {walls['ours'] / walls[name]:.2f}" for name in peers))
    holds = apart <= NOISE * mean(other) and all(ratios[name] >= goal for name, goal in contest.goals.items())
    goal = ", ".join(f"{goal:g} times {name}" for name, goal in contest.goals.items())
    more: dict[str, Any] = {}
    if contest.utilization_goal is not None:
        share = median(run.mfu or 0.0 for run in runs["ours"])
        holds = holds and share >= contest.utilization_goal
        goal += f", {contest.utilization_goal:.0%} of the bf16 matmul rate measured in the same run"
        more["matmul_share"] = round(share, 3)
    result = {
        "name": contest.name,
        "ours": round(ours, 2),
        "peer": {name: round(rate, 2) for name, rate in peers.items()},
        "ratio": min(ratios[name] / goal for name, goal in contest.goals.items()),
        "goal": f"{contest.unit} per {contest.clock} second: {goal}; ratio is the smallest share of a goal that is reached",
        "holds": holds,
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "wall_ratios": {name: round(walls["ours"] / walls[name], 2) for name in peers},
        "best": best,
        "curves_apart": round(apart / mean(other), 6),
        "versions": versions(*_LIBRARIES),
    }
    emit(result | more, keeps=contest.keeps)


def _ends(losses: list[float]) -> str:
    return f"{losses[0]:.4f} -> {losses[-1]:.4f}"
