"""Aliases as the API shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.answers import Object
from db.models import Promotion
from engine.parts.part import Reference

AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class PromotionRequest(BaseModel):
    """A version of a model or adapter that an alias of its name is to mean.

    It must have been evaluated (`kind: eval` with `compare_to`) against the base that it was tuned from and against the
    current version of the alias, on rows of the caller's choice. The 95% interval of each paired difference must not
    reach beyond 0 to the worse side.
    """

    model_config = ConfigDict(extra="forbid")

    model: Reference = Field(description="The version of a model or adapter that the alias is to mean.")
    alias: AliasName = Field(
        description="The alias, such as production; jobs and chats then name the version NAME@production."
    )
    metric: Annotated[str, StringConstraints(pattern=r"^[a-z_/]{1,64}$")] | None = Field(
        default=None,
        description="The metric that decides: eval_loss, eval_exact_match, eval_acc/harness, ...; default: the first of "
        "these that the evaluation has.",
    )
    force: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="Whether to ignore the evaluations; needs an admin's key and is recorded in the audit log.",
    )


class Comparison(BaseModel):
    """An evaluation of the candidate against a rival: `difference` is candidate minus rival, with its 95% interval."""

    against: Literal["base", "current"]
    rival: str
    job_id: str
    metric: str
    greater_is_better: bool
    candidate: float | None
    difference: float
    low: float
    high: float
    passed: bool


class Turn(BaseModel):
    """The version that an alias meant from `created_at` on. `back_to` is the number of the turn that a rollback restored."""

    number: int
    model: str
    artifact_id: str
    created_at: float
    key_id: str
    back_to: int | None
    forced: bool
    comparisons: list[Comparison]


class AliasObject(Object):
    """A name for one version of a model or adapter, which promotions and rollbacks change."""

    object: Literal["alias"] = "alias"
    model: str
    artifact_id: str
    turn: Turn
    history: list[Turn] = Field(description="The turns of the alias, newest first; in a listing only the current one.")


def turn_object(row: Promotion, reference: str) -> Turn:
    fields: dict[str, Any] = {
        "number": row.number,
        "model": reference,
        "artifact_id": row.artifact_id,
        "created_at": row.created_at,
        "key_id": row.key_id,
        "back_to": row.back_to,
        "forced": row.forced,
        "comparisons": row.figures.get("comparisons", []),
    }
    return Turn.model_validate(fields)
