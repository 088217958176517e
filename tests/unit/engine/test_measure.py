"""The measured speed of the machine."""

import math

import pytest

from engine import measure
from engine.measure import Meter, StepWork
from engine.model.adapters import new_adapter
from engine.parts import FullTuning, Hyperparameters, LoraTuning
from engine.plan import Counts, Work
from engine.plan.setting import Setting
from engine.plan.shape import Shape
from engine.precision import Machine
from tests import runs


def test_a_rate_is_measured_though_the_machine_leaves_no_time_for_it(monkeypatch):
    """Otherwise a run on a busy machine would divide by it."""
    monkeypatch.setattr(measure, "_SECONDS", 0.0)
    assert 0 < measure.matmul_tflops(Machine.choose("cpu", "fp32")) < math.inf


@pytest.mark.parametrize(
    "tuning",
    [
        FullTuning(),
        LoraTuning(r=4),
        LoraTuning(r=4, target_modules=("q_proj",), modules_to_save=("lm_head", "up_proj")),
    ],
    ids=["full", "lora", "modules to save"],
)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_step_has_the_operations_of_its_plan(family, tuning):
    """The heads of this Qwen3 are together wider than its hidden states."""
    model = runs.model(family)
    shape = Shape.of(model.config.to_dict())
    planned = Work.of(shape, Setting("cpu", "fp32", tuning, Hyperparameters())).training(Counts(1, 100, 30, 5e4))
    tuned = model if isinstance(tuning, FullTuning) else new_adapter(model, tuning, "tiny")
    meter = Meter(tuned, Machine.choose("cpu", "fp32"))
    meter.begin(1e-12)
    metrics = meter.step(StepWork(counted=30, tokens=100, labels=30, attended=5e4), step_s=1.0)
    assert metrics["mfu"] == pytest.approx(planned)


def test_attention_is_counted_by_the_width_of_its_heads():
    shape = Shape.of(runs.model("qwen3").config.to_dict())
    assert shape.query > shape.hidden
    assert Work.of(shape, Setting("cpu", "fp32", FullTuning(), Hyperparameters())).pair == shape.query * shape.layers
