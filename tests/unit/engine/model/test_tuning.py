"""Adapters of a job: what a spec may ask for, what a model can give, and going on from one that is there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from engine.errors import SpecError
from engine.job_rows import material_of
from engine.jobs import JOB_SPEC, resolve
from engine.model.adapters import new_adapter
from engine.parts import LoraTuning
from tests import runs

SFT = {"kind": "sft", "model": "tiny", "training_file": "file-1"}
PRETRAIN = {"kind": "pretrain", "model": "tiny", "training_file": "file-1"}


def rate(spec: dict[str, Any]) -> object:
    resolved = resolve(JOB_SPEC.validate_python(spec))
    assert resolved.kind != "eval"
    return resolved.hyperparameters.learning_rate


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ({"method": "full"}, 1e-4),
        ({"method": "lora"}, 1e-3),
        ({"method": "qlora", "use_dora": True}, 1e-3),
        ({"method": "lora", "use_rslora": True}, 2.5e-4),
        ({"method": "lora", "modules_to_save": ["lm_head"]}, 1e-4),
    ],
)
@pytest.mark.parametrize("spec", [SFT, PRETRAIN], ids=["sft", "pretrain"])
def test_auto_gives_each_tuning_its_learning_rate(spec, tuning, expected):
    assert rate(spec | {"tuning": tuning}) == pytest.approx(expected)


def test_a_new_model_has_the_learning_rate_of_pre_training():
    assert rate(PRETRAIN | {"model": {"hidden_size": 32}}) == 1e-3


def test_a_new_model_has_nothing_to_adapt():
    with pytest.raises(ValidationError, match="name an existing model, or use 'full'"):
        JOB_SPEC.validate_python(PRETRAIN | {"model": {"hidden_size": 32}, "tuning": {"method": "lora"}})


def test_a_module_is_not_adapted_and_trained_whole_at_once():
    with pytest.raises(ValidationError, match="q_proj is in both target_modules and modules_to_save"):
        LoraTuning(target_modules=("q_proj", "v_proj"), modules_to_save=("q_proj",))


@pytest.mark.parametrize(
    ("tuning", "code", "mend"),
    [
        ({"target_modules": ("q_prj",)}, "target_modules_not_found", "Did you mean q_proj?"),
        ({"target_modules": ("norm",)}, "target_modules_not_found", "There are down_proj, "),
        ({"modules_to_save": ("lm_hed",)}, "modules_to_save_not_found", "Did you mean lm_head?"),
        ({"modules_to_save": ("layers",)}, "target_modules_not_found", "Use 'all-linear'"),
    ],
)
def test_modules_that_the_model_does_not_have_are_a_spec_error(tuning, code, mend):
    with pytest.raises(SpecError) as caught:
        new_adapter(runs.model(), LoraTuning(**tuning), "tiny/1")
    assert caught.value.code == code
    assert caught.value.mend.startswith(mend)


def test_a_head_that_is_tied_to_the_embedding_takes_no_adapter():
    model = runs.model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    with pytest.raises(SpecError, match="both embedding and head"):
        new_adapter(model, LoraTuning(target_modules=("q_proj", "lm_head")), "tiny/1")


def test_tied_weights_that_an_adapter_cannot_keep_tied_are_not_trained_whole():
    with pytest.raises(SpecError, match="PEFT unties those"):
        new_adapter(runs.model("gpt2"), LoraTuning(modules_to_save=("wte",)), "tiny/1")


def test_a_layer_in_4_bits_is_not_trained_whole(tmp_path):
    root = runs.quantized_run(tmp_path / "run")
    change_tuning(root, method="qlora", modules_to_save=["q_proj"])
    assert failure(root)["code"] == "module_in_4_bits"


def test_layers_that_stay_out_of_4_bits_are_named(tmp_path):
    with runs.opened(runs.quantized_run(tmp_path / "run")):
        (told,) = [event for event in runs.events(tmp_path / "run", "log") if event["code"] == "not_in_4_bits"]
    assert told["message"].startswith("2 of 14 linear layers are not in 4 bits")
    assert told["data"]["layers"] == ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_pre_training_goes_on_in_an_adapter(tmp_path, method):
    root = runs.pretrain_run(tmp_path / "run", max_steps=12, learning_rate=0.01)
    spec = json.loads((root / "job.json").read_text())["spec"]
    runs.write_job(root, spec | {"model": "tiny/1", "tuning": {"method": method, "r": 4}})
    runs.save_base(root / "model", width=64)
    before = load_file(root / "model" / "model.safetensors")
    assert runs.carry_out(root) == 0
    assert runs.events(root, "exported")[0]["layout"] == "adapter"
    assert runs.losses(root)[12] < runs.losses(root)[1] - 0.2
    assert all(torch.equal(before[name], now) for name, now in load_file(root / "model/model.safetensors").items())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """A run whose adapter is of another shape than the defaults."""
    root = runs.sft_run(tmp_path_factory.mktemp("tuned") / "run", spec=runs.sft_spec(max_steps=1))
    change_tuning(root, method="lora", r=4, lora_alpha=6, use_rslora=True, modules_to_save=["norm"])
    assert runs.carry_out(root) == 0
    return root


def going_on(tuned: Path, root: Path, **tuning: Any) -> Path:
    runs.sft_run(root, spec=runs.sft_spec(max_steps=1, learning_rate=0.0))
    change_tuning(root, method="lora", **tuning)
    shutil.copytree(tuned / "output", root / "adapter")
    return root


def change_tuning(root: Path, **tuning: Any) -> None:
    spec = json.loads((root / "job.json").read_text())["spec"]
    runs.write_job(root, spec | {"tuning": tuning})


def failure(root: Path) -> dict[str, Any]:
    assert runs.carry_out(root) == 65
    return runs.events(root, "failed")[0]


def config_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "output" / "adapter_config.json").read_text())


@pytest.mark.parametrize("said", [{}, {"r": 4, "use_rslora": True, "modules_to_save": ["norm"]}], ids=["less", "more"])
def test_a_job_goes_on_from_an_adapter_in_its_shape_and_says_so(tuned, tmp_path, said):
    root = going_on(tuned, tmp_path / "run", **said, lora_dropout=0.5)
    assert runs.carry_out(root) == 0
    (told,) = [event for event in runs.events(root, "log") if event["code"] == "adapter_taken"]
    assert told["data"]["r"] == 4
    assert told["data"]["modules_to_save"] == ["norm"]
    before, after = config_of(tuned), config_of(root)
    assert after["lora_dropout"] == 0.5
    changed = {name for name in before if name != "target_modules" and before[name] != after[name]}
    assert changed == {"lora_dropout"}
    weights = load_file(tuned / "output" / "adapter_model.safetensors")
    assert all(
        torch.equal(weights[name], now)
        for name, now in load_file(root / "output" / "adapter_model.safetensors").items()
    )


def test_a_job_that_goes_on_from_an_adapter_is_planned_in_its_shape(tuned, tmp_path):
    tuning: Any = material_of(going_on(tuned, tmp_path / "run")).spec.adapter()
    assert (tuning.r, tuning.lora_alpha, tuning.use_rslora, tuning.modules_to_save) == (4, 6.0, True, ("norm",))


@pytest.mark.parametrize(("rate", "warnings"), [("auto", 1), (2e-4, 0)])
def test_a_rate_that_auto_stood_for_before_the_adapter_was_known_is_told(tuned, tmp_path, rate, warnings):
    root = going_on(tuned, tmp_path / "run")
    spec = json.loads((root / "job.json").read_text())["spec"]
    spec["hyperparameters"]["learning_rate"] = rate
    stored = resolve(JOB_SPEC.validate_python(spec)).model_dump(mode="json")  # as the API writes it
    runs.write_job(root, stored)
    assert runs.carry_out(root) == 0
    told = [event for event in runs.events(root, "log") if event["code"] == "rate_of_another_shape"]
    assert len(told) == warnings
    assert all(event["data"]["learning_rate"] == 10 * event["data"]["fitting"] for event in told)


@pytest.mark.parametrize(
    ("said", "value", "own"),
    [
        ({"r": 8}, "8", "4"),
        ({"lora_alpha": 16}, "16.0", "6.0"),
        ({"use_dora": True}, "True", "False"),
        ({"modules_to_save": ["lm_head"]}, "lm_head", "norm"),
        ({"target_modules": ["q_proj"]}, "q_proj", "down_proj, "),
    ],
    ids=str,
)
def test_a_job_that_wants_the_adapter_in_another_shape_is_a_spec_error(tuned, tmp_path, said, value, own):
    told = failure(going_on(tuned, tmp_path / "run", **said))
    assert told["code"] == "adapter_differs"
    field = f"tuning.{next(iter(said))} is {value}"
    assert told["message"].startswith(f"{field}; the adapter that the job continues has {own}")


def test_an_adapter_of_another_model_is_a_spec_error(tuned, tmp_path):
    root = going_on(tuned, tmp_path / "run")
    shutil.rmtree(root / "model")
    runs.save_base(root / "model", width=64)
    assert failure(root)["code"] == "adapter_not_loaded"
