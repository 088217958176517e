"""Submit, poll and metric ingest against MLflow's tracking server, per CPU-second of the server, interleaved.

- submit: POST /v1/jobs (key checked, spec validated and resolved, job, outbox row and event committed, message sent to
  the broker; the broker's CPU counts) against POST runs/create.
- poll: GET /v1/jobs/{id} of a running job (key checked) against GET runs/get of a run with the same latest figures.
- ingest: twelve figures per step, in full batches (80 steps, under MLflow's limit of 1,000 values per request) and in
  live ones (5 steps). Each side ingests as it does in production: ours from the worker's process straight into the
  database (the CPU of that process counts: reading the lines, checking them, the fenced transaction), MLflow's by
  POST runs/log-batch to its server. The unit is one stored figure.

Both sides use SQLite on one disk with one server process, eight kept-alive connections, and one client process whose
CPU is not counted. Ours has WAL with synchronous=FULL and checks keys; MLflow has its defaults, no keys, and its access
log, telemetry and job queue turned off. No worker runs, so submitted jobs pile up in the queue.
"""

import argparse
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.children.ingest import FIGURES, figures
from benchmarks.harness import peer
from benchmarks.harness.load import Call, Cost, drive, send
from benchmarks.harness.processes import Asked, cpu_s
from benchmarks.harness.report import emit
from benchmarks.harness.service import Service, serve_api

GOAL = 10.0
POLLED = 20
FULL_BATCH_STEPS, LIVE_BATCH_STEPS = 80, 5
JSON_HEADERS = {"content-type": "application/json"}


class Peer(NamedTuple):
    """A running MLflow server."""

    process: subprocess.Popen[bytes]
    port: int

    def drive(self, calls: Callable[[int], Call], seconds: float) -> Cost:
        return drive(self.port, [self.process.pid], calls, JSON_HEADERS, seconds)[0]

    def make_run(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        answer = send(connection, create_run(0), JSON_HEADERS)
        connection.close()
        return json.loads(answer)["run"]["info"]["run_id"]


class Writer:
    """Our writing process and its commands."""

    def __init__(self, service: Service) -> None:
        command = [sys.executable, "-m", "benchmarks.children.ingest", service.database_url]
        self.asked = Asked([*command, service.home / "events.jsonl"])
        self.ask = self.asked.ask

    def write(self, steps: int, batch_steps: int) -> Cost:
        self.ask(f"make {steps}")
        cpu_before, begun = cpu_s([self.asked.process.pid]), time.perf_counter()
        written = self.ask(f"write {batch_steps}")
        wall_s = time.perf_counter() - begun
        return Cost(written * len(FIGURES), cpu_s([self.asked.process.pid]) - cpu_before, wall_s)


def create_run(number: int) -> Call:
    body = {"experiment_id": "0", "start_time": number, "run_name": "bench", "tags": [{"key": "kind", "value": "sft"}]}
    return Call("POST", "/api/2.0/mlflow/runs/create", json.dumps(body).encode())


def log_batch(run_ids: list[str], first_step: int, batch_steps: int) -> Callable[[int], Call]:
    """Return batches of all figures of that many steps; no step is logged twice."""

    def call(number: int) -> Call:
        steps = range(first_step + number * batch_steps, first_step + (number + 1) * batch_steps)
        metrics = [
            {"key": key, "value": value, "timestamp": 1_700_000_000_000 + step, "step": step}
            for step in steps
            for key, value in figures(step + 1).items()
        ]
        body = {"run_id": run_ids[number % len(run_ids)], "metrics": metrics}
        return Call("POST", "/api/2.0/mlflow/runs/log-batch", json.dumps(body).encode())

    return call


def submit_job(file_id: str) -> Callable[[int], Call]:
    spec = {"kind": "pretrain", "training_file": file_id, "metadata": {"kind": "bench"}}
    call = Call("POST", "/v1/jobs", json.dumps(spec).encode())
    return lambda _: call


class Bench:
    """Start both sides, with the jobs and runs that are polled and written to."""

    def __init__(self, service: Service, writer: Writer, mlflow: Peer) -> None:
        self.service, self.writer, self.mlflow = service, writer, mlflow
        self.submit = submit_job(service.upload("rows.txt", b"To be, or not to be.\n" * 100, "pretrain"))
        self.job_ids = [self._running_job() for _ in range(POLLED)]
        self.run_ids = [mlflow.make_run() for _ in range(POLLED)]
        mlflow.drive(log_batch(self.run_ids, 0, LIVE_BATCH_STEPS), 2.0)
        self.writer.ask(f"claim {self._job()}")

    def _job(self) -> str:
        return self.service.call(*self.submit(0))["id"]

    def _running_job(self) -> str:
        job_id = self._job()
        self.writer.ask(f"claim {job_id}")
        self.writer.write(LIVE_BATCH_STEPS, LIVE_BATCH_STEPS)
        return job_id

    def ours(self, name: str, seconds: float) -> Cost:
        polls = [Call("GET", f"/v1/jobs/{job_id}") for job_id in self.job_ids]
        match name:
            case "submit":
                return self._drive(self.submit, seconds)
            case "poll":
                return self._drive(lambda number: polls[number % POLLED], seconds)
            case "ingest_full":
                return self.writer.write(FULL_BATCH_STEPS * round(40 * seconds), FULL_BATCH_STEPS)
            case _:
                return self.writer.write(LIVE_BATCH_STEPS * round(120 * seconds), LIVE_BATCH_STEPS)

    def _drive(self, calls: Callable[[int], Call], seconds: float) -> Cost:
        return drive(self.service.port, self.service.pids, calls, self.service.headers, seconds)[0]

    def theirs(self, name: str, seconds: float, round_number: int) -> Cost:
        polls = [Call("GET", f"/api/2.0/mlflow/runs/get?run_id={run_id}") for run_id in self.run_ids]
        first_step = (round_number + 1) * 10_000_000
        match name:
            case "submit":
                return self.mlflow.drive(create_run, seconds)
            case "poll":
                return self.mlflow.drive(lambda number: polls[number % POLLED], seconds)
            case "ingest_full":
                return self._log(first_step, FULL_BATCH_STEPS, seconds)
            case _:
                return self._log(first_step * 10, LIVE_BATCH_STEPS, seconds)

    def _log(self, first_step: int, batch_steps: int, seconds: float) -> Cost:
        cost = self.mlflow.drive(log_batch(self.run_ids, first_step, batch_steps), seconds)
        return cost._replace(units=cost.units * batch_steps * len(FIGURES))


OPERATIONS = ("submit", "poll", "ingest_full", "ingest_live")


def measure(bench: Bench, rounds: int, seconds: float) -> dict[str, list[tuple[Cost, Cost]]]:
    """Run every operation on both sides in every round; the sides take turns to go first."""
    costs: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in OPERATIONS}
    for number in range(rounds):
        for name in OPERATIONS:
            if number % 2:
                theirs = bench.theirs(name, seconds, number)
                ours = bench.ours(name, seconds)
            else:
                ours = bench.ours(name, seconds)
                theirs = bench.theirs(name, seconds, number)
            costs[name].append((ours, theirs))
            print(
                f"round {number + 1} {name:<12} ours {ours.per_cpu_s:>9.0f} per CPU-s ({ours.units / ours.wall_s:.0f}/s)   "
                f"MLflow {theirs.per_cpu_s:>7.0f} per CPU-s ({theirs.units / theirs.wall_s:.0f}/s)   "
                f"ratio {ours.per_cpu_s / theirs.per_cpu_s:.1f}",
                flush=True,
            )
    return costs


def refuses_wrong_key(service: Service) -> bool:
    """Whether a request with an unknown key is refused, as by a service in use."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.request("GET", "/v1/jobs", headers={"authorization": "Bearer ty-" + "x" * 43})
    return connection.getresponse().status == http.client.UNAUTHORIZED


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are stopped then too
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="Of load, each operation, side and round.")
    options = parser.parse_args()
    peer.install()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-bench-")))
        service = stack.enter_context(serve_api(folder / "home"))
        mlflow = Peer(*stack.enter_context(peer.serve(folder / "mlflow")))
        writer = Writer(service)
        stack.enter_context(writer.asked)
        assert refuses_wrong_key(service), "the service answered to a wrong key"
        costs = measure(Bench(service, writer, mlflow), options.rounds, options.seconds)
    ours = {name: round(median(our.per_cpu_s for our, _ in pairs)) for name, pairs in costs.items()}
    theirs = {name: round(median(their.per_cpu_s for _, their in pairs)) for name, pairs in costs.items()}
    ratios = {name: median(our.per_cpu_s / their.per_cpu_s for our, their in pairs) for name, pairs in costs.items()}
    print("ratios: " + ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items()))
    smallest = min(ratios.values())
    goal = f"each >= {GOAL:.0f} times MLflow {peer.VERSION} per CPU second of the server; ratio is the smallest"
    result = {"name": "api", "ours": ours, "peer": theirs, "ratio": smallest, "goal": goal, "holds": smallest >= GOAL}
    emit(result | {"ratios": {name: round(ratio, 2) for name, ratio in ratios.items()}})


if __name__ == "__main__":
    main()
