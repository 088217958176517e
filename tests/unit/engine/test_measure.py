"""How fast the machine is."""

import math

from engine import measure
from engine.precision import Machine


def test_a_rate_is_measured_though_the_machine_leaves_no_time_for_it(monkeypatch):
    """Else a run on a machine that has others to serve would divide by it."""
    monkeypatch.setattr(measure, "_SECONDS", 0.0)
    assert 0 < measure.matmul_tflops(Machine.choose("cpu", "fp32")) < math.inf
