"""Listing jobs and reading the whole curve of one, in a small and in a large database: both should take the same time.

On each database system two services answer side by side, each over its own database: one with few jobs and a run of few
steps, one with as many as requested. They are queried in turn, so that other work on the machine affects both; medians
are compared. Each curve is checked for its one spike, its one gap and its ends.
"""

import argparse
import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.harness.load import Call, send
from benchmarks.harness.report import emit
from benchmarks.harness.seeded import FIGURES, Seeded, seed
from benchmarks.harness.service import Service, serve_api
from db import projects
from db.session import Database
from tests.servers import Postgres

GOAL = 1.5
_SERVER = {"shared_buffers": "1GB", "work_mem": "256MB", "maintenance_work_mem": "1GB", "max_wal_size": "8GB"}
"""Settings of PostgreSQL; the tests use smaller ones."""


class Side(NamedTuple):
    """A service over a database, and a connection to it."""

    service: Service
    seeded: Seeded
    connection: http.client.HTTPConnection

    def ask(self, path: str) -> tuple[float, Any]:
        """Return the seconds of a request and its answer."""
        begun = time.perf_counter()
        answer = send(self.connection, Call("GET", path), self.service.headers)
        return time.perf_counter() - begun, json.loads(answer)


def paths(job_id: str) -> dict[str, str]:
    return {
        "list": "/v1/jobs?limit=50",
        "list_of_status": "/v1/jobs?limit=50&status=cancelled",
        "list_of_kind": "/v1/jobs?limit=50&kind=dpo",
        "job": f"/v1/jobs/{job_id}",
        "curve": f"/v1/jobs/{job_id}/metrics/loss",
        "curve_smoothed": f"/v1/jobs/{job_id}/metrics/loss?smoothing=0.9",
    }


def check(curve: dict[str, Any], seeded: Seeded) -> None:
    """Check that the curve is complete: its ends, its number of points, and what stands out."""
    at = dict(zip(curve["step"], curve["value"], strict=True))
    assert curve["total"] == seeded.steps
    assert {1, seeded.steps} <= at.keys()
    assert at[seeded.spike] == 99.0 == max(value for value in at.values() if value is not None)
    assert at[seeded.gap] is None


@contextmanager
def side(home: Path, url: str, jobs: int, steps: int) -> Iterator[Side]:
    with serve_api(home, {"TRAINYARD_DATABASE_URL": url}) as service:
        database = Database(url)
        with database.read() as session:
            project = projects.by_name(session, "default")
        database.close()
        assert project is not None, "the service has made it"
        begun = time.perf_counter()
        seeded = seed(url, project.id, jobs, steps)
        print(
            f"{jobs:,} jobs and a run of {steps:,} steps took {time.perf_counter() - begun:.0f} s to write", flush=True
        )
        made = Side(service, seeded, http.client.HTTPConnection("127.0.0.1", service.port, timeout=600))
        yield made
        made.connection.close()


def compare(few: Side, many: Side, rounds: int) -> dict[str, tuple[float, float]]:
    """Measure milliseconds of each request on both sides, without the first round, whose caches are cold."""
    told: dict[str, tuple[float, float]] = {}
    for name in paths(""):
        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds + 1):
            for one, times in zip((few, many), spent, strict=True):
                seconds, answer = one.ask(paths(one.seeded.job_id)[name])
                times.append(seconds)
                if name.startswith("curve"):
                    check(answer, one.seeded)
        told[name] = median(spent[0][1:]) * 1000, median(spent[1][1:]) * 1000
        print(
            f"  {name:<16} {told[name][0]:8.2f} ms {told[name][1]:8.2f} ms  (cold {spent[1][0] * 1000:.0f} ms)",
            flush=True,
        )
    return told


def measure(system: str, folder: Path, sizes: list[tuple[int, int]], rounds: int) -> dict[str, tuple[float, float]]:
    """Run on PostgreSQL or SQLite, and leave nothing behind."""
    print(system, flush=True)
    with ExitStack() as stack:
        urls = [f"sqlite:///{folder}/{name}.db" for name in ("few", "many")]
        if system == "postgresql":
            server = Postgres(durable=False, **_SERVER)
            stack.callback(server.close)
            urls = [server.create() for _ in urls]
        both = [
            stack.enter_context(side(folder / f"{system}-{number}", url, jobs, steps))
            for number, (url, (jobs, steps)) in enumerate(zip(urls, sizes, strict=True))
        ]
        return compare(both[0], both[1], rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs=2, default=(1_000, 1_000_000))
    parser.add_argument(
        "--steps", type=int, nargs=2, default=(10_000, 10_000_000), help="Of the run whose curve is read."
    )
    parser.add_argument("--system", choices=["postgresql", "sqlite"], nargs="+", default=["postgresql", "sqlite"])
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    sizes = list(zip(given.jobs, given.steps, strict=True))
    found = {}
    for system in given.system:
        with tempfile.TemporaryDirectory(prefix="trainyard-scale-") as folder:
            found[system] = measure(system, Path(folder), sizes, given.rounds)
    ratios = {f"{system}.{name}": many / few for system, told in found.items() for name, (few, many) in told.items()}
    worst = max(ratios.values())
    emit({
        "name": "scale",
        "ours": {key: round(found[key.partition(".")[0]][key.partition(".")[2]][1], 2) for key in ratios},
        "peer": {key: round(found[key.partition(".")[0]][key.partition(".")[2]][0], 2) for key in ratios},
        "sizes": {"jobs": given.jobs, "steps": given.steps, "points": [steps * FIGURES for steps in given.steps]},
        "ratio": worst,
        "goal": f"milliseconds of ours (many) at most {GOAL} times those of the peer (few), each",
        "holds": worst <= GOAL,
    })  # fmt: skip


if __name__ == "__main__":
    main()
