"""Workers: which are alive, which jobs they run, and when those should end."""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import Table, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock, gangs
from db.models import Job, Worker
from db.placement import MISSED, answers
from db.state import JobState

_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_WORKERS = cast("Table", Worker.__table__)
# Built once: putting a statement together costs more than running it.
_ALL = select(Worker).order_by(Worker.name)
# Without an order: with one, SQLite would read all jobs by their ids to avoid sorting a few.
_HELD = select(Job.id, Job.project_id, Job.worker, Job.state, Job.started_at, Job.heartbeat_at, Job.progress).where(
    Job.lease_expires_at.is_not(None)
)

WorkerState = Literal["idle", "busy", "lost", "stopped"]


class Advert(NamedTuple):
    """What a worker reports about itself; `memory_bytes` is that of all its GPUs, or of the machine without any."""

    name: str
    host: str
    pid: int
    device: str
    memory_bytes: int
    heartbeat_s: float
    started_at: float
    labels: dict[str, str] | None = None
    gpus: int = 0


class Run(NamedTuple):
    """A job that a worker holds, in how many seconds it ends, and how many it takes; None where not known yet."""

    job_id: str
    project_id: str
    worker: str | None
    state: str
    ends_in_s: float | None
    takes_s: float | None


class Fleet(NamedTuple):
    """The workers and their jobs at one moment; `helping` are those with a part in a job that another one holds."""

    now: float
    workers: list[Worker]
    runs: list[Run]
    helping: dict[str, str]

    def state_of(self, worker: Worker) -> WorkerState:
        if worker.stopped_at is not None:
            return "stopped"
        if worker.heartbeat_at + MISSED * worker.heartbeat_s < self.now:
            return "lost"
        return "busy" if worker.name in self._at_work() else "idle"

    def _at_work(self) -> set[str | None]:
        return {run.worker for run in self.runs}.union(self.helping)

    def alive(self, requires: str = "") -> set[str]:
        """Return the names of the workers that are alive and have what is required."""
        there = {worker.name for worker in self.workers if self.state_of(worker) in {"idle", "busy"}}
        return {worker.name for worker in self.workers if worker.name in there and answers(worker, requires)}

    def idle(self, requires: str = "") -> set[str]:
        """Return the names of the workers that are alive, have what is required, and run nothing."""
        return self.alive(requires) - self._at_work()

    def free(self, requires: str = "") -> int:
        """Return how many workers are idle and have what is required."""
        return len(self.idle(requires))

    def held(self, project_id: str) -> int:
        """Return how many jobs of a project run."""
        return sum(run.project_id == project_id for run in self.runs)

    def starts_in_s(self, position: int) -> float | None:
        """Estimate when the job at that position in the queue starts, from the estimated ends of the running jobs.

        None where those are not known. Waiting jobs are assumed to take as long as the running ones, on average.
        """
        alive = self.alive()
        return _turn([0.0] * self.free(), [run for run in self.runs if run.worker in alive], position)

    def frees_in_s(self, project_id: str, position: int) -> float | None:
        """Estimate the same for a project whose jobs wait for its own running ones."""
        return _turn([], [run for run in self.runs if run.project_id == project_id], position)


def _turn(free: list[float], runs: Collection[Run], position: int) -> float | None:
    if position <= len(free):
        return 0.0
    ends = [run.ends_in_s for run in runs]
    lengths = [run.takes_s for run in runs]
    known = [end for end in ends if end is not None]
    if not runs or len(known) < len(ends) or None in lengths:
        return None
    times = sorted([*free, *known])
    rounds, place = divmod(position - 1, len(times))
    return times[place] + rounds * sum(length or 0.0 for length in lengths) / len(lengths)


def look(s: Session) -> Fleet:
    """Return the workers and the jobs that they run."""
    now = clock.now(s)
    workers = list(s.scalars(_ALL))
    runs = sorted((_run(now, *row) for row in s.execute(_HELD)), key=lambda run: run.job_id)
    return Fleet(now, workers, runs, gangs.busy(s) if runs else {})


def _run(
    now: float,
    job_id: str,
    project_id: str,
    worker: str | None,
    state: str,
    started_at: float | None,
    heartbeat_at: float | None,
    progress: dict[str, Any] | None,
) -> Run:
    eta_s = (progress or {}).get("eta_s") if state == JobState.RUNNING else None
    if eta_s is None or started_at is None:
        return Run(job_id, project_id, worker, state, None, None)
    ends_in_s = max(0.0, eta_s - max(0.0, now - (heartbeat_at or now)))
    return Run(job_id, project_id, worker, state, ends_in_s, now - started_at + ends_in_s)


def beat(s: Session, advert: Advert) -> None:
    """Record a heartbeat of the worker, with what it reports about itself."""
    statement = _INSERT[clock.dialect(s)](_WORKERS).values(
        advert._asdict() | {"heartbeat_at": clock.moment(s), "stopped_at": None}
    )
    reported = {name: statement.excluded[name] for name in (*Advert._fields[1:], "heartbeat_at", "stopped_at")}
    s.execute(statement.on_conflict_do_update(index_elements=["name"], set_=reported))


def leave(s: Session, name: str) -> None:
    """Record that the worker was stopped."""
    s.execute(update(Worker).where(Worker.name == name).values(stopped_at=clock.moment(s)))


def forget(s: Session, older_than_s: float) -> int:
    """Remove workers whose last heartbeat is older than that, and return how many."""
    old = delete(Worker).where(Worker.heartbeat_at < clock.moment(s) - older_than_s).returning(Worker.name)
    return len(s.scalars(old, execution_options={"synchronize_session": False}).all())
