"""Runs that report at a given pace, in their own process, the way a worker records its engine's events.

`python -m benchmarks.children.paced DATABASE_URL FOLDER` answers each line of stdin with one line: `claim JOB` takes a
job; `tell COMMITS PER_SECOND STEPS` makes every claimed job commit at that rate, each commit with the figures of that
many steps and a message, and each record with the moment at which it was handed on; `end` makes them succeed.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.children.ingest import LEASE_S, Writer, figures
from db import leases, records
from db.session import Database
from db.state import JobState
from engine.events import EVENT, Log, Metrics
from workers.tail import Tail


class Run(Writer):
    """One job's lines on their way into the database, each with the moment at which it is written."""

    def __init__(self, database: Database, lines: Path) -> None:
        super().__init__(database, lines)
        self._tail = Tail(lines)
        self._seq = 0

    def tell(self, steps: int) -> None:
        with self.lines.open("a") as file:
            for _ in range(steps):
                self.step += 1
                self._put(file, {"type": "metrics", "step": self.step, "split": "train", "values": figures(self.step)})
            message = f"step {self.step} is done"
            self._put(file, {"type": "log", "level": "info", "code": "told", "message": message, "data": {}})
        metrics: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        for line in self._tail.lines():
            match EVENT.validate_json(line):
                case Metrics(step=step, split=split, values=values, time=told_at):
                    metrics.append({"split": split, "step": step, "values": values, "created_at": told_at})
                case Log(level=level, message=message, code=code, time=told_at):
                    told = {"type": "log", "level": level, "message": message, "data": {"code": code}}
                    events.append(told | {"created_at": told_at})
        with self.database.write() as session:
            renewal = records.append(session, self.job_id, self.fence, events=events, metrics=metrics, lease_s=LEASE_S)
        assert renewal is not None, "the lease was lost"

    def _put(self, file: Any, event: dict[str, Any]) -> None:
        self._seq += 1
        file.write(json.dumps(event | {"seq": self._seq, "time": time.time()}) + "\n")

    def end(self) -> None:
        with self.database.write() as session:
            assert leases.settle(session, self.job_id, self.fence, state=JobState.SUCCEEDED), "the lease was lost"


class Runs:
    """All jobs that this process writes for."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.runs: list[Run] = []

    def claim(self, job_id: str) -> dict[str, Any]:
        run = Run(self.database, self.folder / f"{job_id}.jsonl")
        self.runs.append(run)
        return {"claimed": run.claim(job_id)}

    def tell(self, commits: str, per_second: str, steps: str) -> dict[str, Any]:
        """Let the jobs take turns, so that their commits are spread evenly over time."""
        begun, took = time.monotonic(), []
        for number in range(int(commits) * len(self.runs)):
            due = begun + number / (float(per_second) * len(self.runs))
            time.sleep(max(0.0, due - time.monotonic()))
            handed_at = time.monotonic()
            self.runs[number % len(self.runs)].tell(int(steps))
            took.append(time.monotonic() - handed_at)
        return {"commits": len(took), "took_s": time.monotonic() - begun, "commit_s": median(took)}

    def end(self) -> dict[str, Any]:
        for run in self.runs:
            run.end()
        return {"ended": len(self.runs)}


def main() -> None:
    runs = Runs(Database(sys.argv[1]), Path(sys.argv[2]))
    commands = {"claim": runs.claim, "tell": runs.tell, "end": runs.end}
    for line in sys.stdin:
        name, *arguments = line.split()
        print(json.dumps(commands[name](*arguments)), flush=True)


if __name__ == "__main__":
    main()
