"""A gigabyte of JSON lines: seconds from the start of the process to the first step, and peak memory."""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.processes import REPOSITORY
from benchmarks.harness.report import emit

_LARGE_BYTES, _SMALL_BYTES = 10**9, 10**8
_GOAL_S = 20.0
_MEMORY_GOAL = 1.05
_STEPS = 12
_ROW_BYTES = (200, 3000)


class Run(NamedTuple):
    """The seconds from the start of the process to the end of its first step, and its peak memory."""

    first_step_s: float
    peak_bytes: int


def write_rows(path: Path, size_bytes: int) -> None:
    """Write passages of Shakespeare from random places, so that no two rows are equal."""
    text = (REPOSITORY / "examples" / "shakespeare.txt").read_text(encoding="utf-8")
    rng, written = random.Random(1), 0
    with path.open("w", encoding="utf-8") as file:
        while written < size_bytes:
            start = rng.randrange(len(text))
            row = {"text": f"{written}. {text[start : start + rng.randint(*_ROW_BYTES)]}"}
            written += file.write(json.dumps(row) + "\n")


def run(data: Path, folder: Path, cache: Path) -> Run:
    """Return a pre-training job of a few steps on the rows."""
    folder.mkdir()
    spec = {
        "kind": "pretrain",
        "model": {"size": "tiny"},
        "tokenizer": {"vocab_size": 4096},
        "training_file": "file-1",
        "hyperparameters": {"max_length": 256, "per_device_train_batch_size": 8, "max_steps": _STEPS},
        "checkpoints": {"eval_steps": 100_000, "save_steps": 100_000},
    }
    (folder / "job.json").write_text(json.dumps({"job_id": "job-1", "attempt": 1, "spec": spec}))
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").hardlink_to(data)
    started_s = time.time()
    (folder / "cache").symlink_to(cache)
    process = subprocess.Popen([sys.executable, "-m", "engine", str(folder)], cwd=REPOSITORY)
    first_step_s, peak_bytes = _watch(process, folder / "events.jsonl", started_s)
    return Run(first_step_s, peak_bytes)


def _watch(process: subprocess.Popen[bytes], events: Path, started_s: float) -> tuple[float, int]:
    """Wait for the last step and read the peak; evaluation and export are not measured."""
    while process.poll() is None:
        steps = [event for event in _events(events) if event.get("split") == "train"]
        if len(steps) >= _STEPS - 1:
            status = Path(f"/proc/{process.pid}/status").read_text()
            process.kill()
            process.wait()
            return steps[0]["time"] - started_s, 1024 * int(status.split("VmHWM:")[1].split()[0])
        time.sleep(0.05)
    raise SystemExit(f"the engine ended with {process.returncode} before its last step")


def _events(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="trainyard-streaming-"))
    try:
        (folder / "cache").mkdir()
        runs = {}
        for name, size_bytes in (("small", _SMALL_BYTES), ("large", _LARGE_BYTES)):
            data = folder / f"{name}.jsonl"
            write_rows(data, size_bytes)
            for attempt in ("first", "again"):
                made = run(data, folder / f"{name}-{attempt}", folder / "cache")
                runs[name, attempt] = made
                print(f"{data.stat().st_size / 1e6:.0f} MB, {attempt}: first step after {made.first_step_s:.1f} s, "
                      f"peak {made.peak_bytes / 2**20:.0f} MiB", flush=True)  # fmt: skip
    finally:
        shutil.rmtree(folder)
    memory = runs["large", "first"].peak_bytes / runs["small", "first"].peak_bytes
    first_s = runs["large", "first"].first_step_s
    emit(
        {
            "name": "streaming",
            "ours": {"first_step_s": round(first_s, 2), "cached_s": round(runs["large", "again"].first_step_s, 2)},
            "peer": {"first_step_s": _GOAL_S, "memory_of_100_mb": runs["small", "first"].peak_bytes},
            "ratio": memory,
            "goal": f"first step within {_GOAL_S:g} s; peak memory at most {_MEMORY_GOAL} of that of a tenth of the rows",
            "holds": first_s <= _GOAL_S and memory <= _MEMORY_GOAL,
        }
    )


if __name__ == "__main__":
    main()
