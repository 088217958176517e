"""Artifacts: published once under consecutive versions, found by id, name or alias, and deleted when unused."""

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
from db.models import Artifact, ArtifactFile, Job, Permission, Project
from db.state import ENDED, HELD

_ID_PREFIX = {"model": "model", "adapter": "adapter", "checkpoint": "ckpt"}
_MAX_VERSION_DIGITS = 9
# Built once: constructing a statement costs more than running it.
_THERE = select(Artifact).where(Artifact.deleted_at.is_(None))
_BASES = _THERE.where(Artifact.id.in_(bindparam("ids", expanding=True)))
_MADE = _THERE.where(
    Artifact.job_id.in_(bindparam("jobs", expanding=True)), Artifact.kind.in_(bindparam("kinds", expanding=True))
).order_by(Artifact.id.desc())


class FileEntry(NamedTuple):
    """A file of an artifact to be published; its bytes are already stored as the blob `sha256`."""

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

    The checkpoint with the best metric `best_by` is also kept, because the run may still choose it as its result, and
    so is one that an unfinished job starts from or compares with. Publishing a step again returns the existing artifact
    with its new metrics. Returns None if the fence is stale or the lease has expired.
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
    """Publish a job's model or adapter as the next version of `name`; a version is never used twice.

    `base_id` is the artifact that it was built on, if that is not the one that the job started from. The licence is
    that of the base, and so are the `limits` unless they are given. Publishing the same (job, kind, step) again returns
    the existing artifact. Returns None if the fence is stale or the lease has expired.
    """
    job = _own(s, job_id, fence)
    if job is None:
        return None
    content: dict[str, Any] = {"files": files, "metrics": metrics, "lineage": lineage, "limits": limits}
    return _publish(s, job, kind=kind, layout=layout, name=name, step=step, base_id=base_id, **content)


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
    """Publish an imported model, which no job made, as the next version of `name`."""
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
    """Return artifacts, newest first, and whether more follow.

    Ask for one kind at a time: ids begin with their kind, so those of two kinds are not in the order of time.
    """
    query = select(Artifact).where(
        Artifact.project_id == project_id, Artifact.kind.in_(kinds), Artifact.deleted_at.is_(None)
    )
    if name is not None:
        query = query.where(Artifact.name == name)
    if job_id is not None:
        query = query.where(Artifact.job_id == job_id)
    return paging.page(s, query, Artifact.id, after=after, limit=limit)


def get(s: Session, project_id: str, artifact_id: str) -> Artifact | None:
    """Return the project's artifact with this id, or None if there is none or it is deleted."""
    query = select(Artifact).where(
        Artifact.id == artifact_id, Artifact.project_id == project_id, Artifact.deleted_at.is_(None)
    )
    return s.scalars(query).one_or_none()


def find(s: Session, artifact_id: str) -> Artifact | None:
    """Return the artifact with this id, of any project, unless it is deleted. For workers, never for a request."""
    return s.scalars(select(Artifact).where(Artifact.id == artifact_id, Artifact.deleted_at.is_(None))).one_or_none()


def recorded(s: Session, project_id: str, artifact_id: str) -> Artifact | None:
    """Return the project's artifact with this id even if it is deleted, since its lineage is kept."""
    return s.scalars(
        select(Artifact).where(Artifact.id == artifact_id, Artifact.project_id == project_id)
    ).one_or_none()


def resolve(s: Session, project_id: str, reference: str, *, kinds: tuple[str, ...] | None = None) -> Artifact | None:
    """Return the artifact for an id, a name (its newest version), `name/version`, `name@alias` or `ft:...`.

    Models and adapters share their names, so `kinds` is applied before the newest version is chosen. Deleted versions
    are skipped.
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
    """Return the files of an artifact, ordered by path."""
    return files_of(s, [artifact_id])[artifact_id]


def files_of(s: Session, artifact_ids: Collection[str]) -> dict[str, list[ArtifactFile]]:
    """Return the files of each artifact, ordered by path, in one query."""
    found: dict[str, list[ArtifactFile]] = {artifact_id: [] for artifact_id in artifact_ids}
    query = select(ArtifactFile).where(ArtifactFile.artifact_id.in_(artifact_ids))
    for file in s.scalars(query.order_by(ArtifactFile.artifact_id, ArtifactFile.path)):
        found[file.artifact_id].append(file)
    return found


def delete(s: Session, project_id: str, artifact_id: str) -> bool:
    """Delete an artifact and return whether there was one. The row stays, hidden, so that lineage can name it.

    Raises:
        InUse: the job that made it has not ended, or a job needs it (lineage.needing). A job of another project counts
            while that project has the permission to use it; without, only while a worker holds the job, so that one
            that is paused or queued there cannot prevent the deletion for good.
    """
    there = select(Artifact).where(
        Artifact.id == artifact_id, Artifact.project_id == project_id, Artifact.deleted_at.is_(None)
    )
    # The lock waits for transactions that are creating jobs from it, so those jobs are found below.
    artifact = s.scalars(
        there.with_for_update(key_share=True), execution_options={"populate_existing": True}
    ).one_or_none()
    if artifact is None:
        return False
    job_ids, lent = _users(s, artifact)
    if job_ids or lent:
        raise InUse(artifact_id, job_ids, lent=lent)
    _tombstone(s, [artifact_id])
    return True


def _users(s: Session, artifact: Artifact) -> tuple[list[str], bool]:
    """Return the unfinished jobs of its project that make or need an artifact, and whether other projects' jobs do."""
    making = select(Job.id).where(Job.id == artifact.job_id, Job.state.not_in(ENDED))
    job_ids = {*s.scalars(making), *s.scalars(needing([artifact.id]))}
    of_project = select(Job.id).where(Job.id.in_(job_ids), Job.project_id == artifact.project_id)
    own = sorted(s.scalars(of_project)) if job_ids else []
    others = job_ids - set(own)
    if not others:
        return own, False
    # The permission is for what is to be deleted, or for what the job starts from: an adapter on it.
    permission = select(Permission.id).where(
        Permission.project_id == Job.project_id,
        or_(Permission.artifact_id == artifact.id, Permission.artifact_id == Job.base_artifact_id),
    )
    lent = select(Job.id).where(Job.id.in_(others), or_(Job.state.in_(HELD), permission.exists()))
    return own, s.scalars(lent.limit(1)).first() is not None


def hold(s: Session, artifact_ids: Collection[str]) -> bool:
    """Lock artifacts, and the models below adapters, against deletion until the commit; return whether all exist.

    For a transaction that creates jobs from them: a deletion that waits for the lock then sees those jobs.
    """
    if not artifact_ids or clock.dialect(s) == "sqlite":  # SQLite has one writer, so nothing is deleted meanwhile
        return True
    named = select(Artifact.id, Artifact.layout, Artifact.base_artifact_id).where(Artifact.id.in_(artifact_ids))
    needs = named.cte("needs", recursive=True)
    below = select(Artifact.id, Artifact.layout, Artifact.base_artifact_id)
    below = below.join(needs, (Artifact.id == needs.c.base_artifact_id) & (needs.c.layout == "adapter"))
    wanted = set(s.scalars(select(needs.union(below).c.id))) | set(artifact_ids)
    there = select(Artifact.id).where(Artifact.id.in_(wanted), Artifact.deleted_at.is_(None))
    return wanted == set(s.scalars(there.order_by(Artifact.id).with_for_update(read=True)))


def names(s: Session, project_id: str) -> list[str]:
    """Return the names of the project's artifacts, as `resolve` accepts them."""
    query = select(Artifact.name).where(
        Artifact.project_id == project_id, Artifact.name.is_not(None), Artifact.deleted_at.is_(None)
    )
    return [name for name in s.scalars(query.distinct().order_by(Artifact.name)) if name is not None]


def digest_of(files: Iterable[FileEntry]) -> str:
    """Return the SHA-256 of the lines `<sha256>  <path>`, sorted by path, which identifies the whole set of files."""
    lines = (f"{file.sha256}  {file.path}\n" for file in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _own(s: Session, job_id: str, fence: int) -> Job | None:
    """Return the job, locked until the commit, if it is still held under this fence."""
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
        # The run has repeated a step whose checkpoint was deleted, so that its blobs may be gone, or whose evaluation
        # was cut short, so that it has no metric to compare. The row is written again.
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
    # Two jobs that publish under one name wait for each other here. The lock does not block inserts that
    # merely reference the project.
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
    # The earliest of equal ones, as in the engine.
    figures = [(artifact_id, metrics.get(best_by or "")) for artifact_id, metrics in reversed(rows)]
    sign = -1 if greater_is_better else 1
    measured = [(sign * figure, artifact_id) for artifact_id, figure in figures if isinstance(figure, int | float)]
    best = {min(measured, key=_figure)[1]} if measured else set()
    # A checkpoint that a job is being created from is locked; it is deleted another time.
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
    """Return the bases that jobs start from, by id, and the artifacts that ended jobs made, newest first.

    Neither has deleted ones. This takes at most two queries, and none for unfinished jobs without a base, which are
    most of those that are polled: results are published when a job ends.
    """
    rows = list(jobs)
    base_ids = {job.base_artifact_id for job in rows if job.base_artifact_id}
    ended = [job.id for job in rows if job.state in ENDED]
    bases = s.scalars(_BASES, {"ids": list(base_ids)}) if base_ids else ()
    made = s.scalars(_MADE, {"jobs": ended, "kinds": list(kinds)}) if ended else ()
    return {base.id: base for base in bases}, list(made)
