"""Staging: from stored files to a run directory, and from a run directory to stored files."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from db import artifacts, files, log_context
from db.artifacts import FileEntry
from db.blobs import BlobStore
from db.models import Artifact, Job
from db.session import Session
from engine.errors import DataError, SpecError
from engine.jobs import named_files
from workers.code_version import code_version

_STATE = "state/"
"""The part of a checkpoint that resuming needs; that of another job is staged only if the spec asks for it."""

_MANY = 1001
"""More than a job can have: save_total_limit is at most 1000, and the best checkpoint may be kept beside those."""


class Link(NamedTuple):
    """A file of the run directory, and the blob with its bytes."""

    path: str
    sha256: str


class StagingPlan(NamedTuple):
    """The contents of a run directory, and the lineage that its results will have."""

    job: dict[str, Any]
    links: list[Link]
    lineage: dict[str, Any]


def plan(s: Session, job: Job, fence: int) -> StagingPlan:
    """Collect from the database everything that this attempt's input is made of.

    Raises:
        SpecError: a file or an artifact that the spec names is no longer there.
    """
    data_links, file_lineage = _data(s, job)
    base = _artifact(s, job.base_artifact_id) if job.base_artifact_id else None
    rival = _rival(s, job)
    links = [
        *data_links,
        *(_whole(s, base, "model", "adapter") if base else []),
        *(_whole(s, rival, "baseline", "baseline-adapter") if rival else []),
        *_checkpoints(s, job),
        *(_state(s, base, "continued") if base and job.spec.get("optimizer_state") == "kept" else []),
    ]
    lineage = {
        "job_id": job.id,
        "kind": job.kind,
        "suffix": job.spec.get("suffix"),
        "attempt": fence,
        "spec_digest": hashlib.sha256(json.dumps(job.spec, sort_keys=True).encode()).hexdigest(),
        "files": file_lineage,
        "code": code_version(),
        "base": base and _identity(base),
    }
    if rival:
        lineage["compare_to"] = _identity(rival)
    fields: dict[str, Any] = {"job_id": job.id, "attempt": fence, "spec": job.spec}
    if traceparent := log_context.now().get("traceparent"):
        fields["traceparent"] = traceparent
    return StagingPlan(fields, links, lineage)


def lay_out(planned: StagingPlan, blobs: BlobStore, run_dir: Path, heed: Callable[[], None] = lambda: None) -> None:
    """Write the run directory: `job.json`, and hard links to everything else. `heed` is called before each.

    Raises:
        DataError: a file is not in the blob store.
        BlobsUnavailable: the store is away.
    """
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True)
    (run_dir / "job.json").write_text(json.dumps(planned.job, indent=2), encoding="utf-8")
    for link in planned.links:
        heed()
        target = run_dir / _inside(link.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            blobs.link_to(link.sha256, target)
        except FileNotFoundError as error:
            raise DataError(
                "stored_file_missing",
                f"{link.path} is no longer in the blob store (sha256 {link.sha256})",
                "Ask the operator of the service: `trainyard doctor` lists what is missing, and a backup may have it.",
            ) from error


def digests(links: list[Link]) -> dict[str, str]:
    """Return a digest of each folder of a run directory: equal where the names and bytes of all its files are equal."""
    folders: dict[str, list[Link]] = {}
    for link in sorted(links):
        folders.setdefault(PurePosixPath(link.path).parts[0], []).append(link)
    return {name: hashlib.sha256(json.dumps(found).encode()).hexdigest() for name, found in folders.items()}


def share_cache(run_dir: Path, cache_dir: Path) -> None:
    """Give the engine the cache of this worker, which outlives the run directory."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "cache").symlink_to(cache_dir.resolve())


def hold(folder: Path, held: Path) -> Path:
    """Link the files of a folder into the folder `held`, which keeps them when the first is removed, and return it.

    Returns `folder` itself where no hard links can be made.

    Raises:
        FileNotFoundError: the folder does not exist, or was removed meanwhile.
    """
    shutil.rmtree(held, ignore_errors=True)
    try:
        shutil.copytree(folder, held, symlinks=True, copy_function=os.link)
    except shutil.Error as error:
        if not folder.exists():
            raise FileNotFoundError(folder) from error
        return folder
    return held


def store(folder: Path, blobs: BlobStore, heed: Callable[[], None] = lambda: None) -> list[FileEntry]:
    """Put every file below a folder into the blob store. `heed` is called before each file.

    No row names the first blobs yet while the last ones are stored, so all of them are kept (`keep`) at the end.

    Raises:
        FileNotFoundError: the folder does not exist, or was removed meanwhile.
        ValueError: it holds no files, or something other than plain files.
        db.errors.LowSpace: the disk is nearly full.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    entries = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            heed()
            blob = blobs.put_file(path)
            entries.append(FileEntry(path.relative_to(folder).as_posix(), blob.sha256, blob.size_bytes))
        elif not stat.S_ISDIR(mode):
            raise ValueError(f"{path.relative_to(folder)} is not a plain file")
    if not entries:
        raise ValueError(f"{folder.name} holds no files")
    keep(entries, folder, blobs)
    return entries


def keep(entries: list[FileEntry], folder: Path, blobs: BlobStore) -> None:
    """Renew each blob, or store it again if it was removed, so that it lasts until a row names it."""
    for entry in entries:
        if not blobs.renew(entry.sha256):
            blobs.put_file(folder / entry.path)


def limits_of(folder: Path) -> dict[str, Any] | None:
    """Return the limits of a model according to its config.json; None for an adapter, which has none."""
    path = folder / "config.json"
    if not path.exists():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    return {
        "context_length": config.get("max_position_embeddings", config.get("n_positions")),
        "vocabulary_size": config.get("vocab_size"),
    }


def folder_of(run_dir: Path, path: str) -> Path:
    """Return the folder that an event of the engine names, which must lie in the run directory."""
    return run_dir / _inside(path)


def _data(s: Session, job: Job) -> tuple[list[Link], list[dict[str, str]]]:
    links, lineage = [], []
    for path, name, file_id in named_files(job.spec):
        file = files.get(s, job.project_id, file_id)
        if file is None:
            raise SpecError("file_gone", f"{path} {file_id} was deleted", "Upload it and submit the job again.")
        extension = "txt" if file.format == "text" else "jsonl"
        links.append(Link(f"data/{name}.{extension}", file.sha256))
        lineage.append({"id": file.id, "filename": file.filename, "sha256": file.sha256})
    return links, lineage


def _identity(artifact: Artifact) -> dict[str, Any]:
    return {"id": artifact.id, "name": artifact.name, "version": artifact.version, "digest": artifact.digest}


def _rival(s: Session, job: Job) -> Artifact | None:
    """Return the artifact that the job compares with; the API has pinned its version."""
    name = job.spec.get("compare_to")
    if name is None:
        return None
    rival = artifacts.resolve(s, job.project_id, name)
    if rival is None:
        raise SpecError("base_gone", f"{name}, which the job compares with, was deleted", "Name another model.")
    return rival


def _whole(s: Session, base: Artifact, model: str, adapter: str) -> list[Link]:
    """Link a model into the folder `model`; an adapter into the folder `adapter`, and its base model into `model`."""
    if base.layout == "model":
        return _links(s, base, model)
    links = _links(s, base, adapter)
    below = base
    while below.layout == "adapter":
        if below.base_artifact_id is None:
            raise SpecError("base_gone", f"adapter {below.id} has no base model", "Name another model.")
        below = _artifact(s, below.base_artifact_id)
    return links + _links(s, below, model)


def _checkpoints(s: Session, job: Job) -> list[Link]:
    """Link all checkpoints that are kept: the engine resumes from the newest, and may export the best."""
    kept, _ = artifacts.page(s, job.project_id, kinds=["checkpoint"], job_id=job.id, after=None, limit=_MANY)
    listed = artifacts.files_of(s, [saved.id for saved in kept])
    return [
        Link(f"checkpoints/step-{saved.step:08d}/{file.path}", file.sha256)
        for saved in kept
        for file in listed[saved.id]
    ]


def _links(s: Session, artifact: Artifact, folder: str) -> list[Link]:
    return [
        Link(f"{folder}/{file.path}", file.sha256)
        for file in artifacts.files(s, artifact.id)
        if not file.path.startswith(_STATE)
    ]


def _state(s: Session, checkpoint: Artifact, folder: str) -> list[Link]:
    """Link the training state of another job's checkpoint, which this job continues."""
    return [
        Link(f"{folder}/{file.path}", file.sha256)
        for file in artifacts.files(s, checkpoint.id)
        if file.path.startswith(_STATE)
    ]


def _artifact(s: Session, artifact_id: str) -> Artifact:
    """Return an artifact that existed when the job was submitted, of this project or one that permits its use."""
    artifact = artifacts.find(s, artifact_id)
    if artifact is None:
        raise SpecError("base_gone", f"{artifact_id}, which the job starts from, was deleted", "Name another model.")
    return artifact


def _inside(path: str) -> PurePosixPath:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"{path!r} leaves the run directory")
    return pure
