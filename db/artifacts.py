"""Artifacts: publishing them once and in order, finding them, letting them go."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlalchemy import delete as remove
from sqlalchemy.orm import Session

from db import clock, fine_tuned_names, paging, registry
from db.errors import InUse
from db.fence import live
from db.ids import new_id
from db.lineage import needing
from db.models import Artifact, ArtifactFile, Job, Project
from db.state import ENDED

_ID_PREFIX = {"model": "model", "adapter": "adapter", "checkpoint": "ckpt"}
_MAX_VERSION_DIGITS = 9
# Built once: putting a statement together costs more than running it.
_THERE = select(Artifact).where(Artifact.deleted_at.is_(None))
_BASES = _THERE.where(Artifact.id.in_(bindparam("ids", expanding=True)))
_MADE = _THERE.where(
    Artifact.job_id.in_(bindparam("jobs", expanding=True)), Artifact.kind.in_(bindparam("kinds", expanding=True))
).order_by(Artifact.id.desc())


class FileEntry(NamedTuple):
    """A file of an artifact that is to be published; its bytes are already the blob `sha256`."""

    path: str
    sha256: str
    size_bytes: int


def publish_checkpoint(
    s: Session,
    job_id: str,
    fence: int,
    *,
    step: int,
    layout: str,
    files: Sequence[FileEntry],
    metrics: dict[str, Any],
    lineage: dict[str, Any],
    keep: int,
    best_by: str | None = None,
    greater_is_better: bool = False,
) -> Artifact | None:
    """Publish the checkpoint of a step and, in the same transaction, delete all but the newest `keep` of the job.

    The one with the best metric `best_by` is kept beside them: the run may yet choose it as its result.
    Publishing a step again gives the artifact that is there, with its new metrics. A checkpoint that a job which has not
    ended starts from or compares with is kept. None when the fence is stale or the lease ran out.
    """
    job = _own(s, job_id, fence)
    if job is None:
        return None
    artifact = _publish(
        s, job, kind="checkpoint", layout=layout, name=None, step=step, files=files, metrics=metrics, lineage=lineage
    )
    _thin_out(s, job_id, keep, best_by, greater_is_better=greater_is_better)
    return artifact


def publish_result(
    s: Session,
    job_id: str,
    fence: int,
    *,
    kind: str,
    layout: str,
    name: str,
    step: int,
    files: Sequence[FileEntry],
    metrics: dict[str, Any],
    lineage: dict[str, Any],
    base_id: str | None = None,
    limits: dict[str, Any] | None = None,
) -> Artifact | None:
    """Publish a job's model or adapter as the next version of `name`; versions are never used twice.

    `base_id` is the artifact that it was built on, if that is not the one that the job started from. What is built
    on another has its licence, and its `limits` unless others are told. Publishing
    the same (job, kind, step) again gives the artifact that is there. None when the fence is stale or the lease ran out.
    """
    job = _own(s, job_id, fence)
    if job is None:
        return None
    told: dict[str, Any] = {"files": files, "metrics": metrics, "lineage": lineage, "limits": limits}
    return _publish(s, job, kind=kind, layout=layout, name=name, step=step, base_id=base_id, **told)


def publish_import(
    s: Session,
    project_id: str,
    *,
    name: str,
    files: Sequence[FileEntry],
    lineage: dict[str, Any],
    licence: str,
    limits: dict[str, Any],
) -> Artifact:
    """Publish a model that no job made as the next version of `name`."""
    artifact = Artifact(
        id=new_id(_ID_PREFIX["model"]), project_id=project_id, kind="model", layout="model", step=0, name=name,
        version=_next_version(s, project_id, name), metrics={}, lineage=lineage, licence=licence, limits=limits,
    )  # fmt: skip
    return _fill(s, artifact, files)


def page(
    s: Session,
    project_id: str,
    *,
    kinds: Collection[str],
    name: str | None = None,
    job_id: str | None = None,
    after: str | None,
    limit: int,
) -> tuple[list[Artifact], bool]:
    """Artifacts, newest first, and whether more follow. Ask for one kind at a time: ids of two kinds do not interleave."""
    query = select(Artifact).where(
        Artifact.project_id == project_id, Artifact.kind.in_(kinds), Artifact.deleted_at.is_(None)
    )
    if name is not None:
        query = query.where(Artifact.name == name)
    if job_id is not None:
        query = query.where(Artifact.job_id == job_id)
    return paging.page(s, query, Artifact.id, after=after, limit=limit)


def get(s: Session, project_id: str, artifact_id: str) -> Artifact | None:
    """The artifact of that id, or None when the project has none or it is deleted."""
    query = select(Artifact).where(
        Artifact.id == artifact_id, Artifact.project_id == project_id, Artifact.deleted_at.is_(None)
    )
    return s.scalars(query).one_or_none()


def find(s: Session, artifact_id: str) -> Artifact | None:
    """The artifact of that id, whosever it is, unless it is deleted: for workers, never for a request."""
    return s.scalars(select(Artifact).where(Artifact.id == artifact_id, Artifact.deleted_at.is_(None))).one_or_none()


def recorded(s: Session, project_id: str, artifact_id: str) -> Artifact | None:
    """The project's artifact of that id, also when it is deleted: where it came from is still known."""
    return s.scalars(
        select(Artifact).where(Artifact.id == artifact_id, Artifact.project_id == project_id)
    ).one_or_none()


def resolve(s: Session, project_id: str, reference: str, *, kinds: tuple[str, ...] | None = None) -> Artifact | None:
    """The artifact meant by an id, a name (its newest version that is there), `name/version` or `name@alias`.

    Models and adapters share their names; `kinds` leaves the others out before the newest is taken. A fine-tuned
    name (`ft:...`) means one artifact.
    """
    if reference.startswith(fine_tuned_names.PREFIX):
        found = fine_tuned_names.find(s, project_id, reference)
        return found if found is None or kinds is None or found.kind in kinds else None
    there = select(Artifact).where(Artifact.project_id == project_id, Artifact.deleted_at.is_(None))
    if kinds is not None:
        there = there.where(Artifact.kind.in_(kinds))
    if registry.SIGN in reference:
        turn = registry.meant(s, project_id, reference)
        return None if turn is None else s.scalars(there.where(Artifact.id == turn.artifact_id)).one_or_none()
    named = there.where(or_(Artifact.id == reference, Artifact.name == reference))
    ranked = named.order_by((Artifact.id == reference).desc(), Artifact.version.desc()).limit(1)
    if artifact := s.scalars(ranked).one_or_none():
        return artifact
    name, _, version = reference.rpartition("/")
    if not (version.isascii() and version.isdecimal() and len(version) <= _MAX_VERSION_DIGITS):
        return None
    return s.scalars(there.where(Artifact.name == name, Artifact.version == int(version))).one_or_none()


def files(s: Session, artifact_id: str) -> list[ArtifactFile]:
    """The files of an artifact, by path."""
    query = select(ArtifactFile).where(ArtifactFile.artifact_id == artifact_id)
    return list(s.scalars(query.order_by(ArtifactFile.path)))


def delete(s: Session, project_id: str, artifact_id: str) -> bool:
    """Whether there was such an artifact to delete. The row stays, hidden, so that lineage can name it.

    Raises InUse while the job that made it has not ended, or one that starts from it or compares with it, or does so
    with an adapter on it.
    """
    there = select(Artifact).where(
        Artifact.id == artifact_id, Artifact.project_id == project_id, Artifact.deleted_at.is_(None)
    )
    # The lock waits for jobs that are being made from it: they are seen below.
    artifact = s.scalars(
        there.with_for_update(key_share=True), execution_options={"populate_existing": True}
    ).one_or_none()
    if artifact is None:
        return False
    making = select(Job.id).where(Job.id == artifact.job_id, Job.state.not_in(ENDED))
    if job_ids := sorted({*s.scalars(making), *s.scalars(needing([artifact_id]))}):
        raise InUse(artifact_id, job_ids)
    _tombstone(s, [artifact_id])
    return True


def hold(s: Session, artifact_ids: Collection[str]) -> bool:
    """Whether all are there, with what adapters among them need: nobody deletes any until this transaction has ended.

    It makes the jobs that start from them, which whoever deletes has to see.
    """
    if not artifact_ids or clock.dialect(s) == "sqlite":  # one writes at a time, so nobody deletes meanwhile
        return True
    named = select(Artifact.id, Artifact.layout, Artifact.base_artifact_id).where(Artifact.id.in_(artifact_ids))
    needs = named.cte("needs", recursive=True)
    below = select(Artifact.id, Artifact.layout, Artifact.base_artifact_id)
    below = below.join(needs, (Artifact.id == needs.c.base_artifact_id) & (needs.c.layout == "adapter"))
    wanted = set(s.scalars(select(needs.union(below).c.id))) | set(artifact_ids)
    there = select(Artifact.id).where(Artifact.id.in_(wanted), Artifact.deleted_at.is_(None))
    return wanted == set(s.scalars(there.order_by(Artifact.id).with_for_update(read=True)))


def names(s: Session, project_id: str) -> list[str]:
    """The names that `resolve` knows in this project."""
    query = select(Artifact.name).where(
        Artifact.project_id == project_id, Artifact.name.is_not(None), Artifact.deleted_at.is_(None)
    )
    return [name for name in s.scalars(query.distinct().order_by(Artifact.name)) if name is not None]


def digest_of(files: Iterable[FileEntry]) -> str:
    """The sha256 of the lines `<sha256>  <path>`, sorted by path: one name for the whole set of files."""
    lines = (f"{file.sha256}  {file.path}\n" for file in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _own(s: Session, job_id: str, fence: int) -> Job | None:
    """The job, locked until the commit, if it is still held under this fence."""
    query = select(Job).where(*live(s, job_id, fence)).with_for_update()
    return s.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def _publish(
    s: Session,
    job: Job,
    *,
    kind: str,
    layout: str,
    name: str | None,
    step: int,
    files: Sequence[FileEntry],
    metrics: dict[str, Any],
    lineage: dict[str, Any],
    base_id: str | None = None,
    limits: dict[str, Any] | None = None,
) -> Artifact:
    same = select(Artifact).where(Artifact.job_id == job.id, Artifact.kind == kind, Artifact.step == step)
    artifact = s.scalars(same).one_or_none()
    if artifact is not None and artifact.deleted_at is None and (name or artifact.metrics == metrics):
        return artifact
    if artifact is None:
        artifact = Artifact(id=new_id(_ID_PREFIX[kind]), project_id=job.project_id, job_id=job.id, kind=kind, step=step)
        artifact.name, artifact.version = name, None if name is None else _next_version(s, job.project_id, name)
        artifact.base_artifact_id = base_id or job.base_artifact_id
        base = s.get(Artifact, artifact.base_artifact_id) if artifact.base_artifact_id else None
        artifact.licence = base.licence if base else None
        artifact.limits = limits or (base.limits if base else None)
        s.add(artifact)
    else:
        # The run came by a step whose checkpoint was deleted, so that its blobs may be gone, or whose evaluation
        # a stop had cut short, so that it could not be told from the best. The row is filled anew.
        s.execute(remove(ArtifactFile).where(ArtifactFile.artifact_id == artifact.id))
    artifact.layout, artifact.metrics, artifact.lineage = layout, metrics, lineage
    return _fill(s, artifact, files)


def _fill(s: Session, artifact: Artifact, files: Sequence[FileEntry]) -> Artifact:
    artifact.digest, artifact.size_bytes = digest_of(files), sum(file.size_bytes for file in files)
    artifact.created_at, artifact.deleted_at = clock.now(s), None
    s.add(artifact)
    s.flush()
    rows = [{"artifact_id": artifact.id} | file._asdict() for file in files]
    if rows:
        s.execute(insert(ArtifactFile.__table__), rows)  # pyright: ignore[reportArgumentType] - a table, typed as FromClause
    return artifact


def _next_version(s: Session, project_id: str, name: str) -> int:
    # Two jobs that publish one name at once wait for each other here. The lock leaves room for
    # inserts that merely refer to the project.
    s.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
    newest = select(func.max(Artifact.version)).where(Artifact.project_id == project_id, Artifact.name == name)
    return (s.execute(newest).scalar_one() or 0) + 1


def _thin_out(s: Session, job_id: str, keep: int, best_by: str | None, *, greater_is_better: bool) -> None:
    checkpoints = select(Artifact.id, Artifact.metrics).where(
        Artifact.job_id == job_id, Artifact.kind == "checkpoint", Artifact.deleted_at.is_(None)
    )
    rows = s.execute(checkpoints.order_by(Artifact.step.desc())).all()
    older = {artifact_id for artifact_id, _ in rows[keep:]}
    if not older:
        return
    # Of equals the earliest, as in the engine.
    figures = [(artifact_id, metrics.get(best_by or "")) for artifact_id, metrics in reversed(rows)]
    sign = -1 if greater_is_better else 1
    measured = [(sign * figure, artifact_id) for artifact_id, figure in figures if isinstance(figure, int | float)]
    best = {min(measured, key=_figure)[1]} if measured else set()
    # One that a job is being made from just now makes room another time.
    free = select(Artifact.id).where(Artifact.id.in_(older - best)).with_for_update(key_share=True, skip_locked=True)
    unused = set(s.scalars(free))
    if not unused:
        return
    used = {artifact_id for _, artifact_id in s.execute(needing(unused))}
    _tombstone(s, sorted(unused - used))


def _figure(measured: tuple[float, str]) -> float:
    return measured[0]


def _tombstone(s: Session, artifact_ids: Sequence[str]) -> None:
    s.execute(update(Artifact).where(Artifact.id.in_(artifact_ids)).values(deleted_at=clock.moment(s)))


def of_jobs(s: Session, jobs: Iterable[Job], *, kinds: Collection[str]) -> tuple[dict[str, Artifact], list[Artifact]]:
    """In at most two queries: the bases that jobs start from, by id, and what the ended ones made, newest first.

    Neither has deleted ones. A job without a base that has not ended, as most that are polled, costs none;
    results are published with the end.
    """
    rows = list(jobs)
    base_ids = {job.base_artifact_id for job in rows if job.base_artifact_id}
    ended = [job.id for job in rows if job.state in ENDED]
    bases = s.scalars(_BASES, {"ids": list(base_ids)}) if base_ids else ()
    made = s.scalars(_MADE, {"jobs": ended, "kinds": list(kinds)}) if ended else ()
    return {base.id: base for base in bases}, list(made)
