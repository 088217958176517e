"""What ranks hold of a plan that they divide, and how far they have to."""

import pytest

from engine.plan import MemoryPlan
from engine.plan.ranks import divided, least_division

TRAINED = 1_000_000
PLAN = MemoryPlan(
    weights=4 * TRAINED,
    gradients=4 * TRAINED,
    optimizer=8 * TRAINED,
    activations=700,
    logits=200,
    workspace=100,
    runtime=0,
)


@pytest.mark.parametrize(
    ("stage", "bytes_a_weight"),
    [(0, 4 + 4 + 8), (1, 4 + 4 + (8 + 4) / 4), (2, 4 + (4 + 8 + 4) / 4), (3, (4 + 4 + 8 + 4) / 4)],
)
def test_each_stage_divides_more_among_four_ranks(stage, bytes_a_weight):
    held = divided(PLAN, TRAINED, stage=stage, ranks=4)
    assert held.total == bytes_a_weight * TRAINED + 1000


@pytest.mark.parametrize(("room", "stage"), [(16.1, 0), (12, 1), (9, 2), (6, 3), (1, 3)])
def test_no_more_is_divided_than_the_room_asks_for(room, stage):
    found = least_division(PLAN, TRAINED, ranks=4, room_bytes=int(room * TRAINED))
    assert found.stage == stage


def test_weights_that_cannot_be_divided_stay_whole():
    assert least_division(PLAN, TRAINED, ranks=4, room_bytes=0, most=2).stage == 2
