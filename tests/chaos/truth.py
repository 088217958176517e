"""What must be true when all is over, whatever was killed meanwhile."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from db import artifacts, jobs, records, references
from db.models import Artifact, Attempt, Job
from db.records import Record
from db.session import Session
from tests.chaos.load import Accepted
from tests.chaos.service import Service
from tests.timed_metrics import TIMED

_ALL = 100_000
_CHUNK_BYTES = 1 << 20
_OF_WORKERS = frozenset({"metrics", "log", "started", "sample", "checkpoint", "stopped"})
_RESULTS = ("model", "adapter")


class Outcome(NamedTuple):
    """What a job came to: every figure of its metrics, its result, and the bytes of its weights."""

    figures: dict[tuple[str, int], dict[str, float | None]]
    result: dict[str, Any]
    weights: dict[str, str]


class Verdict(NamedTuple):
    """What was looked at, and what of it was not as it must be, by check."""

    counts: dict[str, int]
    wrong: dict[str, list[str]]


def outcome(s: Session, job: Job) -> Outcome:
    told = [record for record in records.since(s, job.id, 0, _ALL) if record.type == "metrics"]
    figures = {(record.split or "", record.step or 0): _untimed(record.values or {}) for record in told}
    (made,) = results(s, job) or [None]
    weights = {file.path: file.sha256 for file in artifacts.files(s, made.id)} if made else {}
    weights = {path: sha256 for path, sha256 in weights.items() if path.endswith(".safetensors")}
    return Outcome(figures, _untimed((job.result or {}).get("metrics", {})), weights)


def results(s: Session, job: Job) -> list[Artifact]:
    """The models and adapters that a job has published."""
    made = [
        artifacts.page(s, job.project_id, kinds=[kind], job_id=job.id, after=None, limit=_ALL)[0] for kind in _RESULTS
    ]
    return [artifact for some in made for artifact in some]


def judge(service: Service, accepted: Iterable[Accepted], undisturbed: dict[str, Outcome]) -> Verdict:
    """Compare what the service holds with what it was asked for."""
    wrong: dict[str, list[str]] = {name: [] for name in CHECKS}
    counts = dict.fromkeys(("jobs", "attempts", "preempted", "paused", "metric points", "artifacts", "blobs"), 0)
    with service.database.read() as s:
        for asked in accepted:
            job = jobs.find(s, asked.job_id)
            counts["jobs"] += 1
            if job is None or job.state not in ({"succeeded", "cancelled"} if asked.cancelled else {"succeeded"}):
                state = "gone" if job is None else f"{job.state}: {job.error_message}"
                wrong["lost jobs"].append(f"{asked.job_id} ({asked.spec}) is {state}")
                continue
            counts["attempts"] += job.fence
            ended = [s.get_one(Attempt, (job.id, number)).outcome for number in range(1, job.fence + 1)]
            for end in ("preempted", "paused"):
                counts[end] += ended.count(end)
            for name, fault in _faults_of(s, job, undisturbed[asked.spec]):
                wrong[name].append(f"{job.id} ({asked.spec}, {job.fence} attempts): {fault}")
            made = results(s, job)
            counts["artifacts"] += len(made)
            counts["metric points"] += len(undisturbed[asked.spec].figures) if job.state == "succeeded" else 0
        named = references.every(s)
    for sha256 in sorted(named):
        counts["blobs"] += 1
        if not service.blobs.exists(sha256):
            wrong["missing blobs"].append(sha256)
        elif not _sound(service, sha256):
            wrong["damaged blobs"].append(sha256)
    wrong["half uploads"].extend(_half_uploads(service))
    return Verdict(counts, wrong)


def _faults_of(s: Session, job: Job, undisturbed: Outcome) -> Iterable[tuple[str, str]]:
    yield from _faults_of_telling(records.since(s, job.id, 0, _ALL))
    ended_well = job.state == "succeeded"
    made = results(s, job)
    if len(made) != bool(ended_well and undisturbed.weights):
        yield "doubled artifacts", f"{len(made)} results of a job that {job.state} were published"
        return
    came_to = outcome(s, job)
    if differing := [key for key, values in came_to.figures.items() if values != undisturbed.figures.get(key)]:
        yield "other figures", f"{len(differing)} points, the first {differing[0]}"
    if not ended_well:  # as far as it came it is the undisturbed run
        return
    if missing := sorted(set(undisturbed.figures) - set(came_to.figures)):
        yield "lost metric points", f"{missing[:3]} of {len(missing)}"
    if came_to.weights != undisturbed.weights:
        yield "other weights", "not those of the undisturbed run"
    if came_to.result != undisturbed.result:
        yield "other figures", "the result"


def _faults_of_telling(told: Sequence[Record]) -> Iterable[tuple[str, str]]:
    points = [(record.split, record.step) for record in told if record.type == "metrics"]
    if len(points) != len(set(points)):
        yield "doubled metric points", f"{len(points) - len(set(points))} are told twice"
    events = [(record.attempt, record.type, record.created_at, record.message) for record in told]
    events = [event for event in events if event[1] != "metrics"]
    if len(events) != len(set(events)):
        yield "doubled events", f"{len(events) - len(set(events))} are told twice"
    if fault := stale_write(told):
        yield "stale writes", fault


def stale_write(told: Sequence[Record]) -> str | None:
    """What was written under the fence of an attempt after a later one had begun."""
    newest = 0
    for record in told:
        attempt = record.attempt or newest
        if attempt < newest:
            return f"attempt {attempt} told of {record.type} after attempt {newest} had begun"
        newest = attempt
    return None


def late_write(told: Sequence[Record], fence: int) -> str | None:
    """What of these an attempt has written itself whose lease was over before; others tell of its job's state."""
    for record in told:
        succeeded = (record.data or {}).get("state") == "succeeded"
        if record.attempt == fence and (record.type in _OF_WORKERS or succeeded):
            return f"attempt {fence} told of {record.type} after its lease was over"
    return None


def _sound(service: Service, sha256: str) -> bool:
    digest = hashlib.sha256()
    with service.blobs.open(sha256) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == sha256


def _half_uploads(service: Service) -> Iterable[str]:
    with service.client() as client:
        page = client.get("/v1/files", params={"limit": 100}).json()
    return [f"{file['id']} {file['filename']}" for file in page["data"] if file["filename"] == "cut.txt"]


def _untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in TIMED}


CHECKS = (
    "lost jobs",
    "lost metric points",
    "doubled metric points",
    "doubled events",
    "doubled artifacts",
    "stale writes",
    "other weights",
    "other figures",
    "missing blobs",
    "damaged blobs",
    "half uploads",
    "answers of the API",
    "orphans",
    "trainers past a lease",
)
