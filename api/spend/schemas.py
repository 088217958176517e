"""Spend and budgets as the API takes and shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.numbers import WHOLE
from db.budgets import Use
from db.models import Budget

_Whole = Annotated[int, Field(ge=0, le=2**53, strict=True), WHOLE]
_Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]


class BudgetRequest(BaseModel):
    """The most that a key may use; null, or left out, for as much as its project may."""

    model_config = ConfigDict(extra="forbid")

    worker_s: _Amount | None = Field(default=None, description="Seconds of workers in a calendar month (UTC).")
    money: _Amount | None = Field(default=None, description="In a calendar month, by the operator's price of an hour.")
    active_jobs: _Whole | None = Field(default=None, description="Jobs that wait or run at a time.")
    storage_bytes: _Whole | None = Field(default=None, description="Of files, and of what jobs made.")


class Used(BaseModel):
    """What is used of a budget; `worker_s` and `money` since the month began, in UTC."""

    worker_s: float
    money: float | None
    active_jobs: int
    storage_bytes: int


class BudgetObject(BudgetRequest):
    """The budget of a project, or of a key, and what is used of it. `money` counts only where the operator set a price."""

    model_config = ConfigDict(extra="ignore")

    object: Literal["budget"] = "budget"
    owner_id: str
    used: Used


class BudgetList(BaseModel):
    """The budget of the project and those of its keys."""

    object: Literal["list"] = "list"
    data: list[BudgetObject]


class SpendGroup(BaseModel):
    """What a day, a key, a kind or a project used. `of` is its date, its id or its name; null: not known any more."""

    of: str | None
    worker_s: float
    attempts: int
    cost: float | None


class SpendReport(BaseModel):
    """What attempts that have ended used of workers from `since` to `until`; costs are by today's price, null without one."""

    object: Literal["spend"] = "spend"
    since: str
    until: str
    by: Literal["project", "key", "kind", "day"]
    worker_s: float
    attempts: int
    cost: float | None
    currency: str
    data: list[SpendGroup]


def budget_object(budget: Budget, used: Use, price_per_hour: float | None) -> BudgetObject:
    """The budget as it is shown."""
    return BudgetObject(
        owner_id=budget.owner_id,
        worker_s=budget.worker_s,
        money=budget.money,
        active_jobs=budget.active_jobs,
        storage_bytes=budget.storage_bytes,
        used=Used(
            worker_s=used.worker_s,
            money=None if price_per_hour is None else used.worker_s / 3600 * price_per_hour,
            active_jobs=used.active_jobs,
            storage_bytes=used.storage_bytes,
        ),
    )
