"""Plans: making and showing them, and comparing them with what their jobs measured."""

from typing import Any

from anyio import to_thread

from api.answers import Page
from api.auth import Caller
from api.deps import Service
from api.errors import not_found
from api.jobs import submit
from api.plans import outcomes
from api.plans.schemas import Accuracy, Cost, Eta, PlanObject
from api.settings import ApiSettings
from db import plans
from db.models import Plan

_PAST_RUNS = 64
_LOOKED_THROUGH = 1000
"""How many past jobs are searched for them: those of a seldom used device may be far back."""
_FOLLOWED = 1000
_HOUR_S = 3600.0


async def make(service: Service, caller: Caller, body: Any) -> PlanObject:
    """Plan a job without making it.

    Raises:
        ApiError: the job would be refused, its rows cannot be trained on, or the desk does not run.
    """
    job = await to_thread.run_sync(submit.checked, service, caller, body)
    past = await to_thread.run_sync(_past, service, job.kind)
    forecast = await service.desk.answer({"ask": "forecast", **submit.question_of(job), "past": past})
    spec = forecast.pop("spec")

    def keep() -> PlanObject:
        with service.database.write() as session:
            plan = plans.add(session, caller.project_id, kind=job.kind, spec=spec, forecast=forecast)
            return plan_object(plan, service.settings)

    return await to_thread.run_sync(keep)


def _past(service: Service, kind: str) -> list[dict[str, Any]]:
    with service.database.read() as session:
        ended = plans.past(session, _LOOKED_THROUGH, evaluations=kind == "eval")
    return outcomes.past_runs(ended, _PAST_RUNS)


def show(service: Service, caller: Caller, plan_id: str) -> PlanObject:
    with service.database.read() as session:
        plan = plans.get(session, caller.project_id, plan_id)
    if plan is None:
        raise not_found("plan", plan_id)
    return plan_object(plan, service.settings)


def page(service: Service, caller: Caller, *, after: str | None, limit: int) -> Page[PlanObject]:
    with service.database.read() as session:
        rows, has_more = plans.page(session, caller.project_id, after=after, limit=limit)
    return Page.of([plan_object(row, service.settings) for row in rows], has_more)


def accuracy(service: Service, caller: Caller) -> Accuracy:
    with service.database.read() as session:
        followed = plans.kept(session, caller.project_id, _FOLLOWED)
    return outcomes.accuracy(followed)


def plan_object(plan: Plan, settings: ApiSettings) -> PlanObject:
    """Return a plan as it is shown, with costs at the current prices."""
    forecast, workers = plan.forecast, plan.spec.get("resources", {}).get("num_nodes", 1)
    eta = forecast["eta"] and Eta(
        expected_s=forecast["eta"]["expected"],
        low_s=forecast["eta"]["low"],
        high_s=forecast["eta"]["high"],
        runs=forecast["eta"]["runs"],
    )
    return PlanObject.model_validate(
        forecast
        | {"id": plan.id, "created_at": plan.created_at, "kind": plan.kind, "spec": plan.spec}
        | {"eta": eta, "cost": eta and _cost(eta, settings, workers), "co2e_g": eta and _co2e(eta, settings, workers)}
    )


def _cost(eta: Eta, settings: ApiSettings, workers: int) -> Cost | None:
    price = settings.price_per_hour
    if price is None:
        return None
    expected, low, high = (workers * seconds / _HOUR_S * price for seconds in (eta.expected_s, eta.low_s, eta.high_s))
    return Cost(expected=expected, low=low, high=high, currency=settings.currency)


def _co2e(eta: Eta, settings: ApiSettings, workers: int) -> float | None:
    if settings.power_w is None or settings.co2e_g_per_kwh is None:
        return None
    return workers * eta.expected_s / _HOUR_S * settings.power_w / 1000 * settings.co2e_g_per_kwh
