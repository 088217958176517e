"""A short campaign of faults: `make chaos`, as anyone can run it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_KILLS = 50
_TIMEOUT_S = 1200


def campaign(*options: str) -> tuple[dict[str, Any], str]:
    """What it tells in its line of JSON, and its report for people."""
    command = [sys.executable, "-m", "tests.chaos.campaign", *options]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr


@pytest.mark.timeout(_TIMEOUT_S + 60)
def test_a_campaign_of_faults_loses_doubles_and_alters_nothing() -> None:
    told, report = campaign("--kills", str(_KILLS), "--seed", "1")
    assert told["struck"] >= _KILLS
    assert told["metric points"] > 0
    assert told["freezes_past_the_lease"] > 0
    assert not any(told["wrong"].values()), report
