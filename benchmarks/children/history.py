"""A database with history: ended runs, written through the repositories as their workers would have.

`python -m benchmarks.children.history DATABASE_URL --jobs 5000 --steps 100000` adds that many short runs and one long run.
"""

import argparse
import math
import time
from collections.abc import Sequence
from typing import Any

from db import jobs, leases, outbox, projects, records
from db.jobs import NewJob
from db.session import Database, Session
from db.state import JobState

SPEC = {"kind": "pretrain", "model": {"size": "tiny"}, "training_file": "file-of-the-past", "metadata": {}}
SPIKE = 50.0
_BATCH_JOBS = 250
_LEASE_S = 3600.0
_STEP_S = 0.5


def project_of(database: Database, name: str = "default") -> str:
    with database.read() as session:
        project = projects.by_name(session, name)
    assert project is not None, f"there is no project {name!r}; the service makes it at its first start"
    return project.id


def loss_at(step: int) -> float:
    """Return a curve that falls like a loss, with a ripple that thinning has to keep."""
    return 1.5 + 8.0 / (1 + step / 50) + 0.2 * math.sin(step * 0.7) * math.sin(step * 0.013)


def curve(steps: int, spike_at: int | None = None) -> list[dict[str, Any]]:
    """Return the figures of every step from 1; one may stand out."""
    begun = time.time() - steps * _STEP_S
    return [
        {
            "split": "train",
            "step": step,
            "values": {"loss": SPIKE if step == spike_at else loss_at(step), "tokens": 1024.0 * step},
            "created_at": begun + step * _STEP_S,
        }
        for step in range(1, steps + 1)
    ]


def add_run(database: Database, project_id: str, name: str, figures: Sequence[dict[str, Any]], **changes: Any) -> str:
    """Add one run that has succeeded."""
    with database.write() as session:
        return _past(session, project_id, [(name, figures)], changes)[0]


def add_runs(database: Database, project_id: str, count: int, steps: int = 20) -> None:
    """Add many short runs, in transactions of a few hundred."""
    for start in range(0, count, _BATCH_JOBS):
        names = [f"run-{number:05d}" for number in range(start, min(start + _BATCH_JOBS, count))]
        with database.write() as session:
            _past(session, project_id, [(name, curve(steps)) for name in names], {})


def _past(
    session: Session, project_id: str, runs: Sequence[tuple[str, Sequence[dict[str, Any]]]], changes: dict[str, Any]
) -> list[str]:
    wanted = [NewJob(project_id, SPEC | {"suffix": name} | changes, "pretrain", 0) for name, _ in runs]
    made = [job.id for job in jobs.create(session, wanted)]
    for job_id, (_, figures) in zip(made, runs, strict=True):
        claim = leases.claim(session, job_id, worker="history", lease_s=_LEASE_S)
        assert claim is not None
        assert leases.begin_running(session, job_id, claim.fence)
        records.append(session, job_id, claim.fence, events=[], metrics=figures, lease_s=_LEASE_S)
        losses = [row["values"]["loss"] for row in figures if "loss" in row["values"]]
        result = {"metrics": {"eval_loss": losses[-1]}} if losses else None
        assert leases.settle(session, job_id, claim.fence, state=JobState.SUCCEEDED, result=result)
    # Nobody need be told of them.
    told = [message.id for message in outbox.pending(session, len(made) + _BATCH_JOBS) if message.job_id in made]
    outbox.mark_sent(session, told)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database_url")
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=100_000)
    asked = parser.parse_args()
    database = Database(asked.database_url)
    project_id = project_of(database)
    add_runs(database, project_id, asked.jobs)
    print(add_run(database, project_id, "long-run", curve(asked.steps, spike_at=asked.steps * 5 // 8)))
    database.close()


if __name__ == "__main__":
    main()
