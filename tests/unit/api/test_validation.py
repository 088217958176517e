"""From pydantic's problems to faults: the path in the request, the value, and a mend."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.errors import ErrorBody
from api.validation import invalid
from engine.jobs import JOB_SPEC

DPO = {"kind": "dpo", "model": "tiny", "training_file": "file-1"}
SFT = {"kind": "sft", "model": "tiny", "training_file": "file-1"}


def refuse(body: Any) -> ErrorBody:
    with pytest.raises(ValidationError) as caught:
        JOB_SPEC.validate_python(body)
    error = invalid(caught.value.errors(include_url=False), body)
    assert error.status_code == 422
    return error.body


def test_an_unknown_key_gets_its_path_and_a_did_you_mean():
    body = refuse(SFT | {"hyperparameters": {"learning_rat": 0.1}})
    assert (body.code, body.param) == ("unknown_key", "hyperparameters.learning_rat")
    assert body.errors[0].hint == "did you mean 'learning_rate'?"
    assert body.errors[0].value == "0.1"


def test_a_key_near_an_alias_is_told_the_alias():
    assert refuse(SFT | {"hyperparameters": {"n_epoch": 3}}).errors[0].hint == "did you mean 'n_epochs'?"


def test_an_unknown_key_near_nothing_is_told_what_is_known():
    hint = refuse(SFT | {"xyzzy": 1}).errors[0].hint
    assert hint is not None
    assert hint.startswith("known: ")
    assert "training_file" in hint


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (SFT | {"tuning": {"method": "lora", "rank": 8}}, "tuning.rank"),
        (SFT | {"tuning": {"r": 8}}, "tuning.method"),
        ({"kind": "pretrain", "training_file": "file-1", "model": {"hidden_sise": 64}}, "model.hidden_sise"),
        ({"kind": "pretrain", "training_file": "file-1", "model": {"hidden_size": 8}}, "model.hidden_size"),
        ({"kind": "pretrain", "training_file": "file-1", "model": "../etc"}, "model"),
        (SFT | {"hyperparameters": {"max_length": 4}}, "hyperparameters.max_length"),
        (SFT | {"hyperparameters": {"learning_rate": 50.0}}, "hyperparameters.learning_rate"),
        (SFT | {"metadata": {"k": 1}}, "metadata.k"),
        (SFT | {"training_file": "nofile"}, "training_file"),
        ({"kind": "sft", "model": "tiny"}, "training_file"),
        (SFT | {"tuning": {"method": "qlora", "bits": 4}}, "tuning.bits"),
        (DPO | {"dpo": {"beta": 0}}, "dpo.beta"),
        (DPO | {"dpo": {"loss_type": "kto"}}, "dpo.loss_type"),
        (DPO | {"dpo": {"label_smoothing": 0.1}}, "dpo.label_smoothing"),
        ({"model": "tiny"}, "kind"),
        ({}, "kind"),
    ],
)
def test_the_path_is_that_of_the_body_without_the_tags_of_unions(body, param):
    assert refuse(body).param == param


@pytest.mark.parametrize("body", [[], "text", 7, None, [SFT]])
def test_a_body_that_is_no_object_is_refused(body):
    assert refuse(body).code


def test_an_unknown_kind_gets_a_did_you_mean():
    body = refuse(SFT | {"kind": "sftt"})
    assert (body.code, body.param) == ("unknown_value", "kind")
    assert body.errors[0].hint == "did you mean 'sft'?"


def test_an_unknown_choice_gets_a_did_you_mean():
    fault = refuse(SFT | {"hyperparameters": {"lr_scheduler_type": "cosin"}}).errors[0]
    assert (fault.code, fault.value, fault.hint) == ("unknown_value", "cosin", "did you mean 'cosine'?")


def test_the_branches_of_a_union_make_one_fault():
    body = refuse(SFT | {"hyperparameters": {"per_device_train_batch_size": "many"}})
    assert [fault.path for fault in body.errors] == ["hyperparameters.per_device_train_batch_size"]
    assert "'auto'" in body.errors[0].message


def test_every_fault_is_listed_and_the_message_tells_the_first():
    body = refuse(SFT | {"sed": 1, "hyperparameters": {"weight_decay": -1}})
    assert {fault.path for fault in body.errors} == {"sed", "hyperparameters.weight_decay"}
    assert body.message.endswith("(and 1 more)")


def test_long_values_are_cut_and_containers_left_out():
    body = refuse(SFT | {"suffix": "x" * 500, "seed": {"a": 1}})
    values = {fault.path: fault.value for fault in body.errors}
    assert len(values["suffix"] or "") <= 60
    assert values["seed"] is None


@pytest.mark.parametrize("value", [10**30, 1e300, -(10**18), 2**63])
def test_huge_numbers_are_refused_and_do_not_crash(value):
    assert refuse(SFT | {"seed": value}).param == "seed"


def test_of_very_many_faults_a_thousand_are_told_and_the_rest_counted():
    body = refuse(SFT | {f"key{number}": 1 for number in range(5000)})
    assert len(body.errors) == 1000
    assert body.message.endswith("(and 4,999 more)")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"resources": {"nproc_per_node": 2, "parallel": {"tp_size": 2}}, "tuning": {"method": "qlora"}},
         "resources.parallel.tp_size is 2; weights"),
        ({"checkpoints": {"greater_is_better": True}}, "checkpoints.greater_is_better: for eval_loss"),
        ({"un": 1}, "un: unknown key; known"),
        ({"metadata": {"a": "NUL \0"}}, "metadata.a: "),
        ({"seed": 2**40}, "seed: must"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_place_once(changes: dict[str, Any], told: str):
    message = refuse(SFT | changes).message
    assert message.startswith(told)
    assert message.count(told.split(" ", maxsplit=1)[0]) == 1


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"training_file": None}, "training_file"),
        ({"hyperparameters": {"learning_rate": -1}}, "hyperparameters.learning_rate"),
        ({"hyperparamters": {}}, "hyperparamters"),
        ({"dpo": {"beta": 0}}, "dpo.beta"),
    ],
)
def test_the_kind_is_no_place_though_it_has_a_part_of_its_name(changes: dict[str, Any], param: str):
    assert refuse(DPO | {"dpo": {"beta": 0.1}} | changes).param == param
