"""Who is named as slow, and who is not."""

from contextlib import closing
from pathlib import Path

import pytest

from engine.dist.ranks import Ranks
from engine.dist.stragglers import WINDOW, Stragglers
from engine.journal import Journal
from tests import runs


def named(root: Path, steps: list[list[float]]) -> list[tuple[int, int, float]]:
    """Rank, step and ratio of every event."""
    with closing(Journal(root / "events.jsonl")) as journal:
        watch = Stragglers(Ranks(), journal)
        watch._hosts = ["here", "there", "there"]
        for step, seconds in enumerate(steps, 1):
            watch.look(step, seconds)
    told = [event["data"] for event in runs.events(root, "log") if event["code"] == "slow_rank"]
    return [(data["rank"], data["step"], data["ratio"]) for data in told]


@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_that_is_slow_for_long_is_named_once(tmp_path, rank):
    seconds = [1.0, 1.0, 1.0]
    seconds[rank] = 2.0
    assert named(tmp_path, [seconds] * 3 * WINDOW) == [(rank, WINDOW, 2.0)]


def test_a_few_slow_steps_are_nobody_s_fault(tmp_path):
    steps = [[1.0, 5.0, 1.0] if step % 3 == 0 else [1.0, 1.1, 1.0] for step in range(3 * WINDOW)]
    assert named(tmp_path, steps) == []
