"""The artifacts of a prepared history: data files, a model, an adapter on it with checkpoints, and an evaluation of both.

Their weights are placeholders: the pages show only what the service has recorded about them.
"""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.children import history
from db import artifacts, files, jobs, leases, records
from db.artifacts import FileEntry
from db.blobs import BlobStore
from db.jobs import NewJob
from db.models import Artifact
from db.session import Session
from db.state import JobState
from tests.e2e.dashboard.past import LEASE_S, MARKUP, Past

ROWS = [{"prompt": f"What is {number} + 2?", "completion": f"It is {number + 2}."} for number in range(45)]
LIMITS = {"context_tokens": 512, "vocab_size": 262}
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "README.md": b"# A model\n"}


def make(past: Past) -> None:
    """Fill `past.made` with the ids of everything, by name."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    with past.http() as http:
        for name, purpose in (("rows.jsonl", "fine-tune"), ("held-out.jsonl", "evals"), (MARKUP[:200], "evals")):
            answer = http.post("/v1/files", data={"purpose": purpose}, files={"file": (name, lines)})
            assert answer.status_code == 201, answer.text
            past.made[name] = answer.json()["id"]
        named = http.post("/v1/keys", json={"name": MARKUP[:50], "scope": "read"})
        assert named.status_code == 201, named.text
    blobs = BlobStore(past.home / "blobs", low_space_bytes=0)
    content = {path: put(blobs, path, content) for path, content in FILES.items()}
    base = publish(past, "model", "base", content)
    tuned = publish(past, "adapter", "tuned", content, base=base)
    publish(past, "model", MARKUP[:50], content)
    past.made |= {"base": base.id, "tuned": tuned.id, "tuned job": str(tuned.job_id)}
    past.made["eval"] = evaluate(past, blobs, tuned)


def put(blobs: BlobStore, path: str, content: bytes) -> FileEntry:
    with blobs.writer() as writer:
        writer.write(content)
        blob = writer.commit()
    return FileEntry(path, blob.sha256, blob.size_bytes)


def start(s: Session, past: Past, spec: Mapping[str, Any], base: Artifact | None) -> tuple[str, int]:
    """Start a job; return its id and its fence."""
    full = history.SPEC | spec
    (job,) = jobs.create(s, [NewJob(past.project_id, full, full["kind"], 0, base.id if base else None)])
    claim = leases.claim(s, job.id, worker="past", lease_s=LEASE_S)
    assert claim
    assert leases.begin_running(s, job.id, claim.fence)
    return job.id, claim.fence


def publish(
    past: Past, kind: str, name: str, content: Mapping[str, FileEntry], base: Artifact | None = None
) -> Artifact:
    """Publish a job's result after three checkpoints, of which the second is the best."""
    spec: dict[str, Any] = {"suffix": name}
    if base:
        spec |= {"kind": "sft", "model": "base/1", "training_file": past.made["rows.jsonl"]}
    common: dict[str, Any] = {"layout": kind, "files": list(content.values()), "lineage": {"seed": 42}}
    with past.database.write() as s:
        job_id, fence = start(s, past, spec, base)
        records.append(s, job_id, fence, events=[], metrics=history.curve(30), lease_s=LEASE_S)
        for step, loss in ((10, 2.5), (20, 1.5), (30, 2.0)):
            metrics = {"eval_loss": loss}
            assert artifacts.publish_checkpoint(s, job_id, fence, step=step, metrics=metrics, keep=3, **common)
        artifact = artifacts.publish_result(
            s, job_id, fence, kind=kind, name=name, step=20, metrics={"eval_loss": 1.5}, limits=LIMITS, **common
        )
        assert artifact
        assert leases.settle(
            s, job_id, fence, state=JobState.SUCCEEDED, result={"metrics": {"eval_loss": 1.5}}
        )  # fmt: skip
    return artifact


def evaluate(past: Past, blobs: BlobStore, scored: Artifact) -> str:
    """Record an evaluation of the adapter against its base, with the answers of both to every row; return the job's id."""
    items = [item(line, line % 2 > 0) | {"compare_to": item(line, line % 3 > 0)} for line in range(1, len(ROWS) + 1)]
    results = put(blobs, "items", "".join(json.dumps(one) + "\n" for one in items).encode())
    spec = {"kind": "eval", "suffix": "tuned-eval", "model": "tuned/1", "compare_to": "base/1",
            "eval_file": past.made["held-out.jsonl"], "evaluation": {"task": "generate"}}  # fmt: skip
    metrics = {"eval_exact_match": 0.51, "eval_exact_match_low": 0.37, "eval_exact_match_high": 0.65,
               "difference/eval_exact_match": -0.16, "difference/eval_exact_match_low": -0.3,
               "difference/eval_exact_match_high": -0.01, "eval_rows": len(ROWS)}  # fmt: skip
    with past.database.write() as s:
        job_id, fence = start(s, past, spec, scored)
        file = files.add(
            s, past.project_id, filename=f"{job_id}.jsonl", purpose="eval-results", size_bytes=results.size_bytes,
            sha256=results.sha256, format="items", row_count=len(ROWS),
        )  # fmt: skip
        result = {"metrics": metrics, "files": [file.id]}
        assert leases.settle(s, job_id, fence, state=JobState.SUCCEEDED, result=result)
    return job_id


def item(line: int, correct: bool) -> dict[str, Any]:
    """One model's answer to a row."""
    answer = str(line + 1 if correct else line)
    return {"line": line, "reference": str(line + 1), "answer": answer, "correct": correct, "text": f"It is {answer}.",
            "tokens": 5}  # fmt: skip
