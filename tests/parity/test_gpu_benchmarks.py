"""The benchmarks of a GPU that have a peer, whole and at toy size on the CPU."""

import pytest

from tests import scripts

PAIRS = scripts.BENCHMARKS.parents[1] / "shared" / "data" / "hh_rlhf" / "harmless_base_test_first1500.jsonl.gz"
NEEDS_PAIRS = pytest.mark.skipif(not PAIRS.exists(), reason="the preference pairs are no part of the repository")


@pytest.mark.parametrize("name", ["sft", "qlora", pytest.param("dpo", marks=NEEDS_PAIRS)])
def test_a_race_on_the_same_rows_ends_with_its_line(name, monkeypatch, capfd):
    result = scripts.result(f"gpu/{name}", monkeypatch, capfd)
    assert result["name"].startswith("gpu-")
    assert result["curves_apart"] < 2**-8
    assert set(result["ratios"]) == {"defaults"}
