"""The parts of a spec: what they refuse beyond types and ranges."""

from typing import Any

import pytest
from pydantic import ValidationError

from engine.jobs import JOB_SPEC, resolve
from engine.parts import Hyperparameters
from engine.parts.checkpoints import Checkpoints

SFT = {"kind": "sft", "model": "tiny", "training_file": "file-1"}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"seed": True}, "seed"),
        ({"hyperparameters": {"per_device_train_batch_size": True}}, "per_device_train_batch_size"),
        ({"hyperparameters": {"batch_size": True}}, "batch_size"),
        ({"hyperparameters": {"n_epochs": True}}, "n_epochs"),
        ({"hyperparameters": {"weight_decay": False}}, "weight_decay"),
        ({"tuning": {"method": "lora", "r": True}}, "r"),
        ({"resources": {"priority": True}}, "priority"),
    ],
)
def test_true_is_not_taken_for_a_number(part, name):
    with pytest.raises(ValidationError, match=f"{name} must not be true or false"):
        JOB_SPEC.validate_python(SFT | part)


def test_a_whole_number_is_taken_where_a_fraction_may_stand():
    assert Hyperparameters.model_validate({"learning_rate": 1, "n_epochs": 2}).num_train_epochs == 2.0


def test_true_is_taken_where_it_means_something():
    assert Hyperparameters.model_validate({"gradient_checkpointing": True}).activation_checkpointing


@pytest.mark.parametrize("other", ["batch_size", "micro_batch_size"])
def test_two_names_of_one_value_at_once_are_refused_by_both_names(other):
    told = f"per_device_train_batch_size and {other} are one value, given twice"
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python(SFT | {"hyperparameters": {other: 1, "per_device_train_batch_size": 2}})


def test_layers_that_learn_lie_on_the_disk_together_with_their_optimizer():
    spec = SFT | {"tuning": {"method": "full"}}
    with pytest.raises(ValidationError, match="set offload_optimizer to 'disk' as well"):
        JOB_SPEC.validate_python(spec | {"hyperparameters": {"offload_param": "disk"}})
    JOB_SPEC.validate_python(spec | {"hyperparameters": {"offload_param": "disk", "offload_optimizer": "disk"}})
    frozen = {"tuning": {"method": "lora"}, "hyperparameters": {"offload_param": "disk"}}
    JOB_SPEC.validate_python(SFT | frozen)


def shared(tuning: str = "lora", sizes: dict[str, int] | None = None, **hyperparameters: str) -> dict[str, Any]:
    parallel = {"zero_stage": 2} if sizes is None else sizes
    resources = {"nproc_per_node": 2, "parallel": parallel}
    return SFT | {"tuning": {"method": tuning}, "hyperparameters": hyperparameters, "resources": resources}


ON_HEAD = {"method": "lora", "target_modules": ["q_proj", "lm_head"]}
BESIDE = {"method": "lora", "target_modules": ["q_proj"], "modules_to_save": ["up_proj"]}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (shared(optim="adamw_8bit"), "zero_stage is 2.*Set hyperparameters.optim to 'adamw'"),
        (shared(offload_param="disk"), "zero_stage is 2.*offload_param to 'none'"),
        (shared(offload_optimizer="disk"), "zero_stage is 2.*offload_optimizer"),
        (shared(precision="fp16"), "zero_stage is 2.*bf16 and fp32"),
        (shared("qlora", {"zero_stage": 3}), "zero_stage is 3.*Set zero_stage to 2 or less"),
        (shared(sizes={"zero_stage": 3}) | {"tuning": ON_HEAD}, "zero_stage is 3; the head has an adapter"),
        (shared("qlora", {"tp_size": 2}), "tp_size is 2.*in 4 bits"),
        (shared(sizes={"tp_size": 2}, offload_param="disk"), "tp_size is 2.*or set offload_param to 'none'"),
        (shared("full", {"ep_size": 2}, optim="adamw_8bit"), "ep_size is 2.*or set hyperparameters.optim to 'adamw'"),
        (shared(sizes={"ep_size": 2}), "ep_size is 2.*or set tuning.method to 'full'"),
        (shared(sizes={"tp_size": 2}) | {"tuning": BESIDE}, "tp_size is 2.*Leave tp_size out"),
    ],
)
def test_what_processes_cannot_share_is_refused_with_the_spec(spec, told):
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python(spec)
    JOB_SPEC.validate_python(spec | {"resources": {}})


def test_what_a_device_decides_is_not_refused_before_it_is_known():
    spec = shared(offload_optimizer="cpu")
    JOB_SPEC.validate_python(spec)
    with pytest.raises(ValidationError, match="does not offload them"):
        JOB_SPEC.validate_python(spec | {"resources": spec["resources"] | {"device": "cuda"}})


def test_one_process_divides_nothing_so_that_nothing_is_refused_to_it():
    spec = shared(offload_param="disk")
    JOB_SPEC.validate_python(spec | {"resources": spec["resources"] | {"nproc_per_node": 1}})


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"num_decay_steps": 10}, "num_decay_steps is 10; lr_scheduler_type 'cosine' does not use it"),
        ({"lr_scheduler_type": "constant", "min_lr_rate": 0.1}, "min_lr_rate is 0.1; .*'linear' or 'cosine' or 'wsd'"),
        ({"warmup_steps": 500, "max_steps": 100}, "warmup_steps is 500 and max_steps 100; .*lower warmup_steps"),
        ({"warmup_steps": 100, "max_steps": 100}, "lower warmup_steps"),
        ({"warmup_steps": 10.5}, "warmup_steps is 10.5; .*must be whole"),
        ({"lr_scheduler_type": "wsd", "num_decay_steps": 1.5}, "num_decay_steps is 1.5; .*must be whole"),
    ],
)
def test_hyperparameters_without_effect_are_refused(part, message):
    with pytest.raises(ValidationError, match=message):
        Hyperparameters.model_validate(part)


@pytest.mark.parametrize(
    "part",
    [
        {"num_decay_steps": 0.2, "min_lr_rate": 0.0, "lr_scheduler_type": "constant"},
        {"num_decay_steps": 10, "min_lr_rate": 0.1, "lr_scheduler_type": "wsd"},
        {"warmup_steps": 99, "max_steps": 100},
        {"warmup_steps": 0.5, "max_steps": 1},
        {"warmup_steps": 500, "num_train_epochs": 1},
    ],
)
def test_hyperparameters_that_mean_something_are_taken(part):
    Hyperparameters.model_validate(part)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"save_steps": 1.7}, "save_steps is 1.7; .*must be whole"),
        ({"eval_steps": 2.5}, "eval_steps is 2.5; .*must be whole"),
        ({"early_stopping_threshold": 0.1}, "without early_stopping_patience it has no effect"),
    ],
)
def test_rules_of_checkpoints_without_effect_are_refused(part, message):
    with pytest.raises(ValidationError, match=message):
        Checkpoints.model_validate(part)
    Checkpoints.model_validate({"save_steps": 0.7, "eval_steps": 3, "early_stopping_patience": 2})


@pytest.mark.parametrize("part", [{"num_experts_per_tok": 4}, {"router_aux_loss_coef": 0.1}])
def test_settings_of_experts_need_experts(part):
    spec = {"kind": "pretrain", "training_file": "file-1", "model": part}
    with pytest.raises(ValidationError, match=f"{next(iter(part))} is .*without num_local_experts it has no effect"):
        JOB_SPEC.validate_python(spec)
    JOB_SPEC.validate_python(spec | {"model": part | {"num_local_experts": 4}})


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_evaluation_has_nothing_that_zero_divides(stage):
    spec = {"kind": "eval", "model": "tiny", "eval_file": "file-1"}
    resources = {"nproc_per_node": 2, "parallel": {"zero_stage": stage}}
    with pytest.raises(ValidationError, match=f"zero_stage is {stage}; .*leave it out"):
        JOB_SPEC.validate_python(spec | {"resources": resources})
    JOB_SPEC.validate_python(spec | {"resources": resources | {"parallel": {"zero_stage": 0}}})


@pytest.mark.parametrize("kind", ["pretrain", "sft", "dpo"])
def test_a_resolved_spec_is_valid(kind):
    spec = resolve(JOB_SPEC.validate_python(SFT | {"kind": kind}))
    assert JOB_SPEC.validate_python(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("model", "sizes", "told"),
    [
        ({}, {"tp_size": 3}, "tp_size is 3.*4 attention heads.*Set tp_size to a divisor of 4"),
        ({"num_key_value_heads": 1}, {"cp_size": 2}, "cp_size is 2.*1 key/value heads"),
        ({"num_hidden_layers": 2}, {"pp_size": 3}, "pp_size is 3.*2 layers.*Set pp_size to 2 or less"),
        ({}, {"ep_size": 2}, "ep_size is 2.*no experts"),
        ({"num_local_experts": 4}, {"tp_size": 2}, "tp_size is 2.*which ep_size divides"),
    ],
)
def test_what_a_new_model_is_too_odd_for_is_refused_with_the_spec(model, sizes, told):
    (processes,) = sizes.values()
    spec = {"kind": "pretrain", "training_file": "file-1", "model": model}
    shared = {"resources": {"nproc_per_node": processes, "parallel": sizes}}
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python(spec | shared)
    JOB_SPEC.validate_python(spec)
    JOB_SPEC.validate_python(spec | shared | {"model": "of-any-shape"})
