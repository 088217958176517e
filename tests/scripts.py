"""Benchmarks as tests run them: at toy size, in this process."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def result(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The line that `python benchmarks/NAME.py --small` ends with."""
    script = BENCHMARKS / f"{name}.py"
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [script.name, "--small"])
    runpy.run_path(str(script), run_name="__main__")
    return json.loads(capfd.readouterr().out.splitlines()[-1])
