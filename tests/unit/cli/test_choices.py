"""Choices of options, which the cli names by itself since it imports nothing of the service, against their source."""

from typing import Any, get_args

import pytest

from api.plans.estimates import EstimateQuery
from api.spend.schemas import SpendReport
from cli import estimate, keys, spend
from db.scopes import Scope
from engine.estimate.known import GpuName


@pytest.mark.parametrize(
    ("choices", "source"),
    [
        (estimate.TUNINGS, get_args(EstimateQuery.model_fields["tuning"].annotation)),
        (estimate.GPUS, get_args(GpuName)),
        (spend.GROUPS, get_args(SpendReport.model_fields["by"].annotation)),
        (keys.SCOPES, [scope.value for scope in Scope if scope is not Scope.OPERATOR]),
    ],
    ids=["estimate --tuning", "estimate --gpu", "spend --by", "keys create --scope"],
)
def test_the_choices_are_those_that_the_api_takes(choices: tuple[str, ...], source: Any) -> None:
    assert sorted(choices) == sorted(source)
