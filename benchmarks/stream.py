"""A thousand clients follow live streams while figures and events are written: completeness and delay of what they get.

The clients are plain connections of one process; the writer is another, which claims the jobs and commits in fenced
transactions, as a worker does, at the pace of live training. A record's delay is counted from the moment the writer
receives it, before its transaction, to the moment a client has read it; it includes the commit and the time that the
clients themselves take on their one core. Some clients are disconnected in between and come back with their last
number. When the jobs have ended, each client must have the same numbers and bytes as a client that reads the whole
stream only then.
"""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness.processes import Asked, cpu_s
from benchmarks.harness.report import emit
from benchmarks.harness.service import Service, serve_api
from db import feed
from db.session import Database

GOAL_MS = 250.0
CUT_SHARE = 0.05


def processes(service: Service, stack: ExitStack) -> tuple[Asked, Asked]:
    """Start a writer and a crowd of followers."""
    lines = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-lines-")))
    writer = [sys.executable, "-m", "benchmarks.children.paced", service.database_url, lines]
    followers = [sys.executable, "-m", "benchmarks.children.followers", str(service.port), service.key]
    return stack.enter_context(Asked(writer)), stack.enter_context(Asked(followers))


def heads(service: Service, job_ids: list[str]) -> dict[str, int]:
    """Return the newest number of each job."""
    database = Database(service.database_url)
    with database.read() as session:
        found = feed.heads(session, job_ids)
    database.close()
    return {job_id: last_seq for job_id, (last_seq, _) in found.items()}


def follow(crowd: Asked, clients: int, newest: dict[str, int]) -> dict[str, Any]:
    return crowd.ask(f"follow {clients} {orjson.dumps(newest).decode()}")


def measure(service: Service, jobs: int, given: argparse.Namespace) -> dict[str, Any]:
    """Run that many jobs for that long, with the clients spread over them."""
    file_id = service.upload("rows.txt", b"To be, or not to be.\n" * 100, "pretrain")
    spec = orjson.dumps({"kind": "pretrain", "training_file": file_id})
    job_ids = [service.call("POST", "/v1/jobs", spec)["id"] for _ in range(jobs)]
    with ExitStack() as stack:
        writer, crowd = processes(service, stack)
        for job_id in job_ids:
            writer.ask(f"claim {job_id}")
        connected = follow(crowd, given.clients, heads(service, job_ids))
        cut = crowd.ask(f"cut {CUT_SHARE} {given.seconds}")
        cpu_before = cpu_s(service.pids)
        wrote = writer.ask(f"tell {round(given.seconds * given.per_second)} {given.per_second} {given.steps}")
        cpu = cpu_s(service.pids) - cpu_before
        writer.ask("end")
        found = crowd.ask("finish")
    told = told_anew(service, job_ids)
    result = {
        "p50_ms": round(1000 * found["delay_s"]["p50"], 1),
        "p99_ms": round(1000 * found["delay_s"]["p99"], 1),
        "max_ms": round(1000 * found["delay_s"]["max"], 1),
        "whole": sum(count for *outcome, count in found["outcomes"] if outcome in told),
        "lost": found["missing"] + sum((told_of(told, job) - newest) * n for job, newest, _, n in found["outcomes"]),
        "server_cpu_s": round(cpu, 2),
        "wall_s": round(wrote["took_s"], 1),
        "connected_s": round(connected["connected_s"], 1),
        "commit_ms": round(1000 * wrote["commit_s"], 1),
        "client_cpu_s": round(found["cpu_s"], 1),
    } | {name: found[name] for name in ("doubled", "dropped", "ended", "delivered")} | cut  # fmt: skip
    print(f"{jobs} jobs: {result}", flush=True)
    return result


def told_anew(service: Service, job_ids: list[str]) -> list[list[Any]]:
    """Return (job, newest number, checksum) of clients that connect after the end."""
    with ExitStack() as stack:
        _, crowd = processes(service, stack)
        follow(crowd, len(job_ids), heads(service, job_ids))
        return [outcome for *outcome, _ in crowd.ask("finish")["outcomes"]]


def told_of(told: list[list[Any]], job_id: str) -> int:
    """Return the newest number of a job."""
    return next(newest for job, newest, _ in told if job == job_id)


def holds(result: dict[str, Any], clients: int) -> bool:
    whole = result["whole"] == result["ended"] == clients
    return whole and not (result["lost"] or result["doubled"] or result["dropped"]) and result["p99_ms"] <= GOAL_MS


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are stopped then too
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument(
        "--jobs", type=int, nargs="+", default=[1, 20], help="That they follow, one part after another."
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--per-second", type=float, default=2.0, help="Commits of each job.")
    parser.add_argument("--steps", type=int, default=5, help="Of a commit, twelve figures each, besides an event.")
    parser.add_argument("--small", action="store_true", help="Twenty clients for two seconds: whether it works.")
    given = parser.parse_args()
    if given.small:
        given.clients, given.jobs, given.seconds = 20, [2], 2.0
    found = {}
    for jobs in given.jobs:
        with (
            tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder,
            serve_api(Path(folder) / "home") as service,
        ):
            found[f"{jobs} jobs" if jobs > 1 else "1 job"] = measure(service, jobs, given)
    worst_ms = max(result["p99_ms"] for result in found.values())
    emit({
        "name": "stream",
        "ours": found,
        "peer": {"p99_ms": GOAL_MS},
        "ratio": worst_ms / GOAL_MS,
        "goal": f"{given.clients} clients: each has everything once and in order; p99 of the delay at most {GOAL_MS:g} ms",
        "holds": all(holds(result, given.clients) for result in found.values()),
    })  # fmt: skip


if __name__ == "__main__":
    main()
