"""Fine-tuned names: `ft:base:project:suffix:job`, the form in which OpenAI's clients name fine-tuned models."""

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Artifact, Project

PREFIX = "ft:"
_TUNING = frozenset({"sft", "dpo"})
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
# A full name fits the field `model` of a job spec, which has 200 characters.
_BASE_LENGTH = 40
_PROJECT_LENGTH = 20
_JOB = "job-"


def name(artifact: Artifact, project_name: str) -> str | None:
    """Return the fine-tuned name of an artifact of a tuning job, or None for any other artifact."""
    base = artifact.lineage.get("base")
    if artifact.lineage.get("kind") not in _TUNING or base is None or artifact.job_id is None:
        return None
    below = base["id"] if base["name"] is None else f"{base['name']}-{base['version']}"
    named = artifact.name or artifact.lineage.get("suffix")
    suffix = "" if named in {None, artifact.job_id} else named
    parts = [below[:_BASE_LENGTH], _UNSAFE.sub("-", project_name)[:_PROJECT_LENGTH], suffix]
    full = PREFIX + ":".join([*parts, artifact.job_id.removeprefix(_JOB)])
    return f"{full}:ckpt-step-{artifact.step}" if artifact.kind == "checkpoint" else full


def find(s: Session, project_id: str, reference: str) -> Artifact | None:
    """Return the project's artifact with exactly this name, unless it is deleted."""
    own = [(artifact, owner) for artifact, owner in candidates(s, reference) if owner.id == project_id]
    return next((artifact for artifact, owner in own if name(artifact, owner.name) == reference), None)


def candidates(s: Session, reference: str) -> list[tuple[Artifact, Project]]:
    """Return the artifacts of the job in the name, of any project, each with its project; deleted ones are left out."""
    parts = reference.split(":")
    if len(parts) not in {5, 6}:
        return []
    made = select(Artifact, Project).join(Project, Project.id == Artifact.project_id)
    made = made.where(Artifact.job_id == _JOB + parts[4], Artifact.deleted_at.is_(None))
    return [(artifact, owner) for artifact, owner in s.execute(made)]
