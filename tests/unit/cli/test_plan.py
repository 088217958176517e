"""How a plan reads on a terminal."""

from typing import Any

from cli.jobs import plan
from engine.forecast import walk

PLAN: dict[str, Any] = {
    "fits": False,
    "room_bytes": 2_000_000_000,
    "memory": {"weights": 3_000_000_000, "gradients": 0, "total": 3_000_000_000},
    "mend": {"edits": [{"path": "tuning.method", "value": "qlora"}], "total_bytes": 1_500_000_000},
    "eta": {"expected_s": 90.0, "low_s": 60.0, "high_s": 150.0, "runs": 7},
    "cost": {"expected": 1.5, "low": 1.0, "high": 2.0, "currency": "EUR"},
}


def test_what_does_not_fit_is_told_what_to_change() -> None:
    assert plan._fits(PLAN) == "no, 2.0 GB are free; with tuning.method=qlora it needs 1.5 GB"
    assert plan._fits(PLAN | {"mend": None}).endswith("no combination of three changes would be enough")


def test_a_time_says_what_it_is_based_on() -> None:
    assert plan._time(PLAN) == "1m30s (1m00s to 2m30s, from 7 runs that have ended here)"
    assert "no run has ended here" in plan._time(PLAN | {"eta": PLAN["eta"] | {"runs": 0}})


def test_memory_is_told_by_component() -> None:
    assert plan.memory_of(PLAN) == "3.0 GB: weights 3.0 GB"


def test_a_job_tells_both_sides() -> None:
    said = {"steps": 10, "tokens": 1000, "peak_memory_bytes": 700_000_000, "seconds": 12.0}
    told = plan.planned(
        {"kind": "sft", "plan": {"id": "plan-1", "exact": True, "predicted": said, "actual": said | {"seconds": 13.0}}}
    )
    assert told == "10 steps, 1,000 tokens, 700.0 MB, 12s; actual: 10 steps, 1,000 tokens, 700.0 MB, 13s (plan-1)"


def test_what_lies_on_the_disk_is_told_where_something_does() -> None:
    assert plan._on_disk(PLAN | {"on_disk_bytes": 2_000_000_000}) == "2.0 GB"
    assert [plan._on_disk(PLAN | told) for told in ({}, {"on_disk_bytes": 0}, {"on_disk_bytes": None})] == [None] * 3


def estimated(**changes: Any) -> str | None:
    asked = {"patience": None, "minutes": None, **changes}
    spec = {
        "checkpoints": {"early_stopping_patience": asked.pop("patience")},
        "resources": {"max_minutes": asked.pop("minutes")},
    }
    return plan._estimated({"exact": False, "steps": 100, "validation_rows": 5, "spec": spec, **asked})


def test_a_plan_that_is_not_exact_says_why() -> None:
    assert estimated(exact=True) is None
    assert estimated(steps=30_000) == "the first 20,000 steps; the rest is assumed to be like them"
    assert estimated(minutes=5.0) == "all steps; max_minutes may end it earlier"
    assert estimated(patience=2) == "all steps; early stopping may end it earlier"
    assert estimated(minutes=5.0, patience=2, validation_rows=0) == "all steps; max_minutes may end it earlier"


def test_a_plan_counts_as_many_steps_as_it_says() -> None:
    assert plan._COUNTED_STEPS == walk._MOST_STEPS
