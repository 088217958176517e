"""Run benchmarks as tests do: at toy size, in this process."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def result(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the last line that `python benchmarks/NAME.py --small` prints."""
    script = BENCHMARKS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [script.name, "--small"])
    runpy.run_path(str(script), run_name="__main__")
    return json.loads(capfd.readouterr().out.splitlines()[-1])
