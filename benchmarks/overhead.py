"""The overhead of the service over `python -m engine` by hand on the same run directory content, interleaved.

The job is a pre-training run of about half a minute, so that a second lost by the service would show as 3%. Three ways
of running it take turns:

- by hand: a fresh directory with the job.json and data/ that the service staged for this spec, and `python -m engine`
  on it, timed from start to end of the process. It includes the imports and everything the engine does: the tokenizer,
  training, checkpoints, export, and loading and evaluating the export.
- cold: from the POST to the [DONE] of the job's stream, with no engine waiting. It adds what the service does:
  validation, database, broker, claim, staging, hashing and publishing of every checkpoint and of the model with fsync,
  metrics into the database and out on the stream.
- warm: the same with the engine process that a worker keeps waiting with its imports done, as `trainyard up` does.

Both services (a `trainyard up` each) stay up for the whole run and are idle while another way is timed.
"""

import argparse
import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.harness.processes import wait_quiet
from benchmarks.harness.report import emit
from benchmarks.harness.service import REPOSITORY, Service, serve

GOAL_RATIO = 1.15
GOAL_FIRST_METRIC_S = 2.0
TEXT = REPOSITORY / "examples" / "shakespeare.txt"


class Run(NamedTuple):
    """The times of one job through the service, in seconds from its POST."""

    first_metric_s: float
    done_s: float

    def __str__(self) -> str:
        return f"{self.done_s:.1f} s, first metric {self.first_metric_s:.2f} s"


def spec(file_id: str, steps: int) -> dict[str, object]:
    return {
        "kind": "pretrain",
        "model": {"hidden_size": 128, "num_hidden_layers": 2},
        "tokenizer": {"vocab_size": 1024},
        "training_file": file_id,
        "hyperparameters": {"max_steps": steps, "max_length": 128, "per_device_train_batch_size": 8},
        "checkpoints": {"save_steps": 0.2},
    }


def through_service(service: Service, job: dict[str, object]) -> Run:
    """Submit the job and follow its stream to the end."""
    begun = time.perf_counter()
    job_id = service.call("POST", "/v1/jobs", json.dumps(job).encode())["id"]
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=600)
    connection.request("GET", f"/v1/jobs/{job_id}/stream", headers=service.headers)
    stream = connection.getresponse()
    first_metric_s = None
    for line in stream:
        if not line.startswith(b"data: "):
            continue
        if line.strip() == b"data: [DONE]":
            break
        record = json.loads(line.removeprefix(b"data: "))
        if first_metric_s is None and record["type"] == "metrics":
            first_metric_s = time.perf_counter() - begun
    done_s = time.perf_counter() - begun
    connection.close()
    ended = service.call("GET", f"/v1/jobs/{job_id}")
    if ended["status"] != "succeeded" or first_metric_s is None:
        raise RuntimeError(f"the job did not succeed: {ended['status']}, {ended['error']}")
    return Run(first_metric_s, done_s)


def staged_by(service: Service, job: dict[str, object], target: Path) -> None:
    """Copy what the service stages for the job, and cancel the job."""
    job_id = service.call("POST", "/v1/jobs", json.dumps(job).encode())["id"]
    runs = service.home / "runs" / job_id
    deadline = time.monotonic() + 60
    while not list(runs.glob("*/events.jsonl")):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no engine has begun in {runs}")
        time.sleep(0.1)
    (attempt,) = (path.parent for path in runs.glob("*/events.jsonl"))
    target.mkdir()
    shutil.copy2(attempt / "job.json", target / "job.json")
    shutil.copytree(attempt / "data", target / "data")
    service.call("POST", f"/v1/jobs/{job_id}/cancel")
    wait_quiet(service.pids)


def by_hand(staged: Path, folder: Path) -> float:
    """Return the seconds that the engine takes on a fresh directory, started by hand."""
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(staged, run_dir, dirs_exist_ok=True)
    begun = time.perf_counter()
    with (run_dir / "engine.log").open("wb") as log:
        command = [sys.executable, "-m", "engine", run_dir]
        subprocess.run(command, cwd=REPOSITORY, stdout=log, stderr=log, check=True)
    took_s = time.perf_counter() - begun
    shutil.rmtree(run_dir)
    return took_s


class Times(NamedTuple):
    """The seconds of every run, by way."""

    hand: list[float]
    cold: list[Run]
    warm: list[Run]


def measure(cold: Service, warm: Service, folder: Path, rounds: int, steps: int) -> Times:
    """Run all three ways in every round, starting with another one each time, on an idle machine each time."""
    text = TEXT.read_bytes()
    cold_job, warm_job = (spec(service.upload(TEXT.name, text, "pretrain"), steps) for service in (cold, warm))
    staged = folder / "staged"
    staged_by(cold, cold_job, staged)
    times = Times([], [], [])
    for number in range(rounds):
        for place in range(3):
            wait_quiet([*cold.pids, *warm.pids])
            match (number + place) % 3:
                case 0:
                    times.hand.append(by_hand(staged, folder))
                    print(f"round {number + 1}: by hand {times.hand[-1]:.1f} s", flush=True)
                case 1:
                    times.cold.append(through_service(cold, cold_job))
                    print(f"round {number + 1}: cold    {times.cold[-1]}", flush=True)
                case _:
                    times.warm.append(through_service(warm, warm_job))
                    print(f"round {number + 1}: warm    {times.warm[-1]}", flush=True)
    return times


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are stopped then too
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-bench-")))
        cold = stack.enter_context(serve(folder / "cold", {"TRAINYARD_WARM_ENGINES": "0"}))
        warm = stack.enter_context(serve(folder / "warm", {"TRAINYARD_WARM_ENGINES": "1"}))
        times = measure(cold, warm, folder, options.rounds, options.steps)
    hand_s = median(times.hand)
    cold_s, warm_s = (median(run.done_s for run in runs) for runs in (times.cold, times.warm))
    first_cold_s, first_warm_s = (median(run.first_metric_s for run in runs) for runs in (times.cold, times.warm))
    ratio = max(cold_s, warm_s) / hand_s
    ours = {
        "cold_s": cold_s,
        "warm_s": warm_s,
        "first_metric_cold_s": first_cold_s,
        "first_metric_warm_s": first_warm_s,
    }
    emit(
        {
            "name": "overhead",
            "ours": {name: round(value, 2) for name, value in ours.items()},
            "peer": {"by_hand_s": round(hand_s, 2)},
            "ratio": ratio,
            "goal": f"cold and warm <= {GOAL_RATIO} times by hand (ratio is the larger), "
            f"first metric warm <= {GOAL_FIRST_METRIC_S:.0f} s",
            "holds": ratio <= GOAL_RATIO and first_warm_s <= GOAL_FIRST_METRIC_S,
        }
    )


if __name__ == "__main__":
    main()
