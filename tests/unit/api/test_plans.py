"""What a plan costs, by the operator's prices, and what it learns from."""

import pytest
from pydantic import SecretStr

from api.plans import outcomes
from api.plans.service import plan_object
from api.settings import ApiSettings
from db.models import Job, Plan
from tests.integration.api.live import FORECAST


def plan(**changes: object) -> Plan:
    forecast = FORECAST | changes
    return Plan(id="plan-1", project_id="p", kind="sft", spec={}, forecast=forecast, created_at=1.0)


def settings(**given: object) -> ApiSettings:
    return ApiSettings.model_validate({"secret": SecretStr("s"), **given})


def test_an_hour_costs_its_price_and_its_electricity():
    told = plan_object(plan(), settings(price_per_hour=2.5, currency="EUR", power_w=400, co2e_g_per_kwh=300))
    assert told.cost is not None
    assert (told.cost.expected, told.cost.low, told.cost.high, told.cost.currency) == (2.5, 1.25, 5.0, "EUR")
    assert told.co2e_g == 120.0


def ended(number: int, device: str, ranks: int = 1, precision: str = "fp32") -> Job:
    """A job that has succeeded; the higher its number, the longer it took."""
    usage = {"method": "lora", "device": device, "precision": precision, "ranks": ranks}
    usage |= {"effort": {}, "part_seconds": {}, "runtime_bytes": 1}
    return Job(spec={}, result={"usage": usage}, started_at=0.0, finished_at=float(number))


def test_forecasts_learn_from_the_newest_runs_of_each_device_and_number_of_ranks_and_precision():
    many = [ended(number, "cpu") for number in range(5)]
    few = [ended(10, "cuda"), ended(11, "cuda", ranks=2), ended(12, "cuda", precision="bf16"), ended(13, "cuda")]
    told = outcomes.past_runs([*many, Job(spec={}, result=None), *few], 2)
    assert sorted(run["seconds"] for run in told) == [0, 1, 10, 11, 12, 13]


@pytest.mark.parametrize(
    ("exact", "max_minutes", "counted"),
    [(True, None, {"steps": 1, "tokens": 1}), (True, 90, {"steps": 1, "tokens": 1}), (False, None, {"steps": 1, "tokens": 0}),
     (False, 1, {"steps": 0, "tokens": 0})],
)  # fmt: skip
def test_a_plan_is_held_to_what_it_foretells(exact: bool, max_minutes: int | None, counted: dict[str, int]):
    took = {"steps": 1, "tokens": 1, "trained_tokens": 1, "flops": None, "peak_memory_bytes": 1}
    job = Job(
        spec={"resources": {"max_minutes": max_minutes}},
        result={"usage": took},
        fence=1,
        started_at=0.0,
        finished_at=1.0,
    )
    told = outcomes.accuracy([(job, plan(exact=exact))])
    assert {name: getattr(told, name).jobs for name in counted} == counted


def test_without_prices_and_without_a_time_there_is_no_cost():
    assert plan_object(plan(), settings()).cost is None
    told = plan_object(plan(eta=None), settings(price_per_hour=2.5, power_w=400, co2e_g_per_kwh=300))
    assert (told.cost, told.co2e_g) == (None, None)
