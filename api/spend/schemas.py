"""Spend and budgets as the API reads and shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.numbers import WHOLE
from db.budgets import Use
from db.models import Budget

_Whole = Annotated[int, Field(ge=0, le=2**53, strict=True), WHOLE]
_Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]


class BudgetRequest(BaseModel):
    """The most that a key may use; an amount that is null or left out is limited by the project's budget only."""

    model_config = ConfigDict(extra="forbid")

    worker_s: _Amount | None = Field(default=None, description="Worker time in a calendar month (UTC), in seconds.")
    money: _Amount | None = Field(
        default=None, description="Money spent in a calendar month (UTC), at the operator's price per hour."
    )
    active_jobs: _Whole | None = Field(
        default=None, description="The number of jobs that are queued or running at the same time."
    )
    storage_bytes: _Whole | None = Field(
        default=None, description="The total size of stored files and artifacts, in bytes."
    )


class Used(BaseModel):
    """What is used of a budget; `worker_s` and `money` count from the start of the month (UTC)."""

    worker_s: float
    money: float | None
    active_jobs: int
    storage_bytes: int


class BudgetObject(BudgetRequest):
    """The budget of a project or a key, and what is used of it. `money` is limited only if the operator set a price."""

    model_config = ConfigDict(extra="ignore")

    object: Literal["budget"] = "budget"
    owner_id: str
    used: Used


class BudgetList(BaseModel):
    """The budgets of the project and of its keys."""

    object: Literal["list"] = "list"
    data: list[BudgetObject]


class SpendGroup(BaseModel):
    """The usage of a day, a key, a kind or a project. `of` is its date, id or name; null where it is no longer known."""

    of: str | None
    worker_s: float
    attempts: int
    cost: float | None


class SpendReport(BaseModel):
    """The worker time of ended attempts from `since` to `until`; costs are at the current price, null without one."""

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
    """Return a budget as it is shown."""
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
