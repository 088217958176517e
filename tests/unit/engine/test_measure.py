"""The measured speed of the machine."""

import math

from engine import measure
from engine.precision import Machine


def test_a_rate_is_measured_though_the_machine_leaves_no_time_for_it(monkeypatch):
    """Otherwise a run on a busy machine would divide by it."""
    monkeypatch.setattr(measure, "_SECONDS", 0.0)
    assert 0 < measure.matmul_tflops(Machine.choose("cpu", "fp32")) < math.inf
