"""Aliases as the API shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.answers import Object
from db.models import Promotion
from engine.parts.part import Reference

AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class PromotionRequest(BaseModel):
    """Have an alias of a model's or adapter's name mean this version of it.

    It must have been evaluated (`kind: eval` with `compare_to`) against the base that it was tuned from, and against
    what the alias means now, each on rows of the caller's choice, and the 95% interval of the paired difference must
    lie on its side of 0, or end there.
    """

    model_config = ConfigDict(extra="forbid")

    model: Reference
    alias: AliasName = Field(description="production; jobs and chats then know the version as NAME@production.")
    metric: Annotated[str, StringConstraints(pattern=r"^[a-z_/]{1,64}$")] | None = Field(
        default=None,
        description="The figure that decides: eval_loss, eval_exact_match, eval_acc/harness, ... The first of the "
        "evaluation's own when left out.",
    )
    force: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Whatever the evaluations say; for admins' keys, and noted in the audit log."
    )


class Comparison(BaseModel):
    """What an evaluation says of the candidate beside a rival: `difference` is candidate minus rival, its 95% interval."""

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
    """What an alias meant from `created_at` on. `back_to` is the number of the turn that a rollback went back to."""

    number: int
    model: str
    artifact_id: str
    created_at: float
    key_id: str
    back_to: int | None
    forced: bool
    comparisons: list[Comparison]


class AliasObject(Object):
    """A name that means one version of a model or adapter, and another one after the next promotion."""

    object: Literal["alias"] = "alias"
    model: str
    artifact_id: str
    turn: Turn
    history: list[Turn] = Field(description="Newest first; of a listing the present turn alone.")


def turn_object(row: Promotion, reference: str) -> Turn:
    told: dict[str, Any] = {
        "number": row.number,
        "model": reference,
        "artifact_id": row.artifact_id,
        "created_at": row.created_at,
        "key_id": row.key_id,
        "back_to": row.back_to,
        "forced": row.forced,
        "comparisons": row.figures.get("comparisons", []),
    }
    return Turn.model_validate(told)
