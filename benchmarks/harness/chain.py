"""Consecutive jobs in run directories, as a worker would start them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.service import REPOSITORY


def carried_out(
    run: Path, spec: Mapping[str, Any], data: Mapping[str, str], *, model: Path | None = None
) -> dict[str, Any]:
    """Run a job to its end; `data` maps the names of its files (train.jsonl, eval.jsonl, ...) to their contents.

    Returns its final figures, and what its `started` event said.
    """
    (run / "data").mkdir(parents=True)
    (run / "job.json").write_text(json.dumps({"job_id": run.name, "attempt": 1, "spec": spec}))
    for name, content in data.items():
        (run / "data" / name).write_text(content)
    if model is not None:
        (run / "model").symlink_to(model)
    subprocess.run([sys.executable, "-m", "engine", str(run)], cwd=REPOSITORY, check=True)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    for event in events:
        if event["type"] == "metrics" and event["split"] == "eval":
            figures = {name: round(value, 4) for name, value in event["values"].items() if value is not None}
            print(run.name, f"step {event['step']}", figures, flush=True)
    started = next(event for event in events if event["type"] == "started")
    return started | events[-1]["metrics"]


def lines(rows: list[Any]) -> str:
    """Format rows as a .jsonl file."""
    return "".join(json.dumps(row) + "\n" for row in rows)
