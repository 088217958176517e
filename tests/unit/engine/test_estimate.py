"""Estimates of runs on many GPUs, compared with published runs."""

from typing import Any

import pytest

from engine.estimate import MODELS, Estimate, Question, estimate
from engine.parts import FullTuning, LoraTuning, QloraTuning
from engine.plan.work import parameters_of

_TUNINGS = (FullTuning(), LoraTuning(), QloraTuning())


def asked(model: str, tuning: Any = _TUNINGS[0], gpus: int = 8, **changes: Any) -> Estimate:
    given = {"gpu": "h100", "tokens": 1e9, "max_length": 4096, **changes}
    return estimate(Question(model=model, tuning=tuning, gpus=gpus, **given))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("llama-2-7b", 6.74e9),
        ("llama-2-13b", 13.02e9),
        ("llama-2-70b", 68.98e9),
        ("llama-3.1-8b", 8.03e9),
        ("llama-3.1-70b", 70.55e9),
        ("llama-3.1-405b", 405.85e9),
    ],
)
def test_models_have_as_many_weights_as_their_checkpoints(model, published):
    assert parameters_of(MODELS[model]) == pytest.approx(published, rel=1e-3)


def test_llama_405b_comes_to_its_published_operations_and_gpu_hours():
    # Grattafiori et al. 2024, arXiv:2407.21783, section 3.2: 15.6T tokens, 3.8e25 operations; its model card: 30.84M hours.
    told = asked("llama-3.1-405b", gpus=16_384, tokens=15.6e12, max_length=8192)
    assert told.six_nd == pytest.approx(3.79e25, rel=0.01)
    assert told.flops == pytest.approx(told.six_nd, rel=0.05)
    for hours in told.gpu_hours:
        assert hours == pytest.approx(30.84e6, rel=0.25)
    # That run divided layers and rows among its GPUs as well: of ZeRO alone, one row of 8k takes more than 80 GB.
    assert not told.fits
    assert asked("llama-3.1-405b", gpu="h200", gpus=16_384, tokens=15.6e12, max_length=8192).fits


@pytest.mark.parametrize(
    ("model", "gpu", "tokens", "mfu", "published_hours"),
    [
        # Touvron et al. 2023, arXiv:2307.09288, table 2.
        ("llama-2-70b", "a100-80gb", 2e12, (0.43, 0.43), 1_720_320),
        # The model cards of Llama 3 70B and of Llama 3.1 70B, at 28% (its longer rows are in the count).
        ("llama-3.1-70b", "h100", 15e12, (0.28, 0.28), 7.0e6),
    ],
)
def test_70b_models_come_to_their_published_gpu_hours(model, gpu, tokens, mfu, published_hours):
    told = asked(model, gpus=2048, gpu=gpu, tokens=tokens, mfu=mfu)
    assert told.gpu_hours.low == pytest.approx(published_hours, rel=0.25)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("gpus", [8, 64, 16_384])
def test_adapters_need_less_than_full_tuning_and_4_bits_less_than_16_where_all_is_whole(model, gpus):
    full, lora, qlora = (asked(model, tuning, gpus) for tuning in _TUNINGS)
    assert lora.flops < full.flops
    assert lora.trainable_parameters == qlora.trainable_parameters < full.trainable_parameters
    if lora.zero_stage == qlora.zero_stage == 0:
        assert qlora.memory.total < lora.memory.total


@pytest.mark.parametrize("tuning", _TUNINGS, ids=lambda tuning: tuning.method)
@pytest.mark.parametrize("model", MODELS)
def test_the_least_number_of_gpus_holds_the_run_and_half_of_it_does_not(model, tuning):
    least = asked(model, tuning).least_gpus
    if least is None:
        assert not asked(model, tuning, 16_384).fits
        return
    assert asked(model, tuning, least).fits
    assert least == 1 or not asked(model, tuning, least // 2).fits


def test_a_70b_model_tunes_in_4_bits_on_one_gpu_and_in_full_on_a_few_dozen():
    assert asked("llama-3.1-70b", QloraTuning(), 1).fits
    assert asked("llama-3.1-70b", gpus=1).least_gpus == 32
