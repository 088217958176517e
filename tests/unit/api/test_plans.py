"""What a plan costs, by the operator's prices."""

from pydantic import SecretStr

from api.plans.service import plan_object
from api.settings import ApiSettings
from db.models import Plan
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


def test_without_prices_and_without_a_time_there_is_no_cost():
    assert plan_object(plan(), settings()).cost is None
    told = plan_object(plan(eta=None), settings(price_per_hour=2.5, power_w=400, co2e_g_per_kwh=300))
    assert (told.cost, told.co2e_g) == (None, None)
