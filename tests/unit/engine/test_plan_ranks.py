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


@pytest.mark.parametrize(
    ("weights", "ranks", "gigabytes"),
    [
        (7.5e9, 1, (120, 120, 120)),
        (7.5e9, 4, (52.5, 41.3, 30)),
        (7.5e9, 16, (35.6, 21.6, 7.5)),
        (7.5e9, 64, (31.4, 16.6, 1.88)),
        (7.5e9, 1024, (30.1, 15.1, 0.12)),
        (128e9, 64, (536, 284, 32)),
        (1e12, 1024, (4011, 2013, 15.6)),
    ],
)
def test_with_weights_and_gradients_in_16_bits_it_is_the_table_of_the_paper(weights, ranks, gigabytes):
    # Rajbhandari et al. 2020, table 1: 2 bytes for a weight, 2 for its gradient, 12 for masters and moments.
    numbers = int(weights)
    whole = MemoryPlan(2 * numbers, 2 * numbers, 8 * numbers, 0, 0, 0, 0)
    for stage, expected in enumerate(gigabytes, 1):
        held = divided(whole, numbers, stage=stage, ranks=ranks)
        assert held.total / 1e9 == pytest.approx(expected, rel=0.01, abs=0.005)
