"""The writing side of metric ingest, in its own process: what a worker does with the lines of `events.jsonl`.

It answers each line of stdin with one line of JSON: `claim JOB` takes the job, `make STEPS` writes the lines that an
engine would write, `write BATCH` reads them in batches of that size, checks them, and commits each batch in a fenced
transaction.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from db import leases, records
from db.session import Database
from engine.events import EVENT, Metrics
from workers.tail import Tail

LEASE_S = 3600.0
FIGURES = (
    "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s", "trained_tokens_per_s",
    "mfu", "memory_bytes", "step_s", "data_wait_s", "epoch", "eta_s",
)  # fmt: skip
"""The figures that an engine reports for a training step."""


def figures(step: int) -> dict[str, float]:
    """Return twelve figures that change with the step."""
    return {name: 1.0 / (step + place) for place, name in enumerate(FIGURES, 1)}


class Writer:
    """One job's lines on their way into the database."""

    def __init__(self, database: Database, lines: Path) -> None:
        self.database = database
        self.lines = lines
        self.job_id = ""
        self.fence = 0
        self.step = 0

    def claim(self, job_id: str) -> str:
        with self.database.write() as session:
            claim = leases.claim(session, job_id, worker="bench", lease_s=LEASE_S)
            assert claim is not None, f"{job_id} is not there to claim"
            leases.begin_running(session, job_id, claim.fence)
        self.job_id, self.fence, self.step = job_id, claim.fence, 0
        return job_id

    def make(self, steps: str) -> int:
        with self.lines.open("w") as file:
            for seq in range(1, int(steps) + 1):
                self.step += 1
                event = {"type": "metrics", "seq": seq, "time": time.time(), "step": self.step, "split": "train"}
                file.write(json.dumps(event | {"values": figures(self.step)}) + "\n")
        return int(steps)

    def write(self, batch: str) -> int:
        metrics: list[dict[str, Any]] = []
        written = 0
        for line in Tail(self.lines).lines():
            event = EVENT.validate_json(line)
            assert isinstance(event, Metrics)
            row = {"split": event.split, "step": event.step, "values": event.values, "created_at": event.time}
            metrics.append(row)
            if len(metrics) == int(batch):
                self._commit(metrics)
                written += len(metrics)
                metrics = []
        assert not metrics, "the steps are no multiple of the batch"
        return written

    def _commit(self, metrics: list[dict[str, Any]]) -> None:
        with self.database.write() as session:
            renewal = records.append(session, self.job_id, self.fence, events=[], metrics=metrics, lease_s=LEASE_S)
        assert renewal is not None, "the lease was lost"


def main() -> None:
    """Serve the commands: `python -m benchmarks.children.ingest DATABASE_URL LINES_FILE`."""
    writer = Writer(Database(sys.argv[1]), Path(sys.argv[2]))
    commands = {"claim": writer.claim, "make": writer.make, "write": writer.write}
    for line in sys.stdin:
        name, argument = line.split()
        answer: Any = commands[name](argument)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
