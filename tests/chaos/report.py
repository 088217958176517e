"""What a campaign came to: a table for people, and a line for programs."""

import json
import sys
from typing import Any

from benchmarks.harness.report import hardware
from tests.chaos.faults import Faults
from tests.chaos.truth import Verdict


def tell(asked: dict[str, Any], faults: Faults, verdict: Verdict, figures: dict[str, Any]) -> int:
    """A table for people on stderr, one line of JSON on stdout."""
    say(f"\n{'fault':<34} times")
    for name, count in sorted(faults.done.items()):
        say(f"{name:<34} {count:>5}")
    for name, reason in faults.skipped().items():
        say(f"{name:<34}  none: {reason}")
    say(f"\n{'what was looked at':<34} count")
    for name, count in verdict.counts.items():
        say(f"{name:<34} {count:>5}")
    for name, figure in figures.items():
        told = figure if isinstance(figure, dict) else {"": figure}
        say(f"{name.replace('_', ' '):<34} {', '.join(f'{label} {value}'.strip() for label, value in told.items())}")
    say(f"\n{'what must not be':<34} found")
    for name, found in verdict.wrong.items():
        say(f"{name:<34} {len(found):>5}")
    for name, found in verdict.wrong.items():
        for fault in found[:5]:
            say(f"  {name}: {fault}")
    wrong = {name: len(found) for name, found in verdict.wrong.items()}
    struck = {"faults": dict(faults.done), "struck": faults.kills, "lost_to_power_cuts": faults.lost_blobs}
    told = {"name": "chaos"} | asked | struck | verdict.counts | figures | {"wrong": wrong, "hardware": hardware()}
    sys.stdout.write(json.dumps(told) + "\n")
    return int(any(wrong.values()))


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
