"""What a job is told to change, it can change: its spec takes the edits, and they give back what they promise."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from engine import footprint
from engine.forecast.case import TrainingCase
from engine.forecast.room import Edit, Elsewhere, Mend, _mends, room_elsewhere
from engine.forecast.training import TrainingOutlook
from engine.jobs import JOB_SPEC
from engine.plan import Setting
from engine.stop import StopFlag
from tests import runs
from tests.invariants.test_forecast import case

PLENTY = 1 << 50


def changed(spec: Any, edits: tuple[Edit, ...]) -> Any:
    """The spec with these edits, as whoever reads them makes it."""
    told = json.loads(spec.model_dump_json())
    for edit in edits:
        *parts, field = edit.path.split(".")
        place = told
        for part in parts:
            place = place[part]
        place[field] = edit.value
    return JOB_SPEC.validate_python(told)


def mends(given: TrainingCase, spec: dict[str, Any]) -> list[Mend]:
    """All there are of a case, were it a job of this spec."""
    job: Any = JOB_SPEC.validate_python(spec)
    setting = Setting("cpu", "bf16", job.tuning, job.hyperparameters)
    return list(_mends(given._replace(spec=job, setting=setting), PLENTY))


def values(found: list[Mend], path: str) -> set[Any]:
    return {edit.value for mend in found for edit in mend.edits if edit.path == path}


HYPER = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "max_length": 1024}
SFT = {"kind": "sft", "model": "tiny/1", "training_file": "file-1", "hyperparameters": HYPER}
NEW = {"kind": "pretrain", "model": {"size": "8b"}, "training_file": "file-1", "hyperparameters": HYPER}
LENGTHS = "hyperparameters.max_length"
SAMPLES = {"prompts": ["the cat"], "max_new_tokens": 300}


@pytest.mark.parametrize(
    "spec",
    [
        NEW,
        SFT | {"samples": SAMPLES},
        SFT | {"kind": "dpo", "dpo": {"reference": "frozen_copy"}},
        SFT | {"resources": {"nproc_per_node": 2}},
    ],
    ids=["a new model", "samples", "dpo", "two processes"],
)
def test_the_spec_takes_all_edits_that_are_proposed(spec):
    found = mends(case()[0], spec)
    assert found
    for mend in found:
        changed(JOB_SPEC.validate_python(spec), mend.edits)


def test_no_adapter_is_proposed_for_a_new_model():
    assert values(mends(case()[0], SFT), "tuning.method") == {"qlora"}
    assert values(mends(case()[0], NEW), "tuning.method") == set()


def test_rows_are_not_to_be_shorter_than_the_samples_that_are_written():
    assert values(mends(case()[0], SFT), "hyperparameters.max_length") == {512, 256}
    assert values(mends(case()[0], SFT | {"samples": SAMPLES}), "hyperparameters.max_length") == {512}


def test_rows_are_not_halved_to_less_than_256_tokens():
    assert values(mends(case()[0], SFT | {"hyperparameters": HYPER | {"max_length": 600}}), LENGTHS) == {300}


def test_moments_that_are_kept_stay_those_of_their_weights_and_optimizer():
    found = mends(case()[0], SFT | {"optimizer_state": "kept"})
    assert found
    assert not values(found, "hyperparameters.optim") | values(found, "tuning.method")


def outlook(root: Path, rows: int, **spec: Any) -> TrainingCase:
    """Of a job whose rows fill max_length, one document each."""
    given = runs.sft_spec(max_length=64, packing=False, max_steps=4, **spec.pop("hyperparameters"))
    runs.sft_run(root, spec=given | {"validation_file": None} | spec)
    runs.write_rows(root / "data" / "train.jsonl", [{"prompt": "the", "completion": "cat " * 80}] * rows)
    return case_in(root)


def case_in(root: Path) -> TrainingCase:
    needs: Any = TrainingOutlook(root, StopFlag()).needs(None, PLENTY)
    return needs.case


def done(given: TrainingCase, path: str) -> dict[Any, Any]:
    """By each value that is proposed of a field, what the case then is."""
    return {edit.value: change(given) for edit, change in given.edits() if edit.path == path}


@pytest.mark.parametrize(
    ("rows", "accumulation", "processes", "proposed"),
    [
        (100, 1, 1, [4, 2, 1]),
        (100, 1, 2, [4, 2]),
        (100, 2, 2, [4, 2, 1]),
        (100, 1, 4, [4]),
        (100, 3, 2, [4, 2, 1]),
        (3, 1, 1, [2, 1]),
    ],
)
def test_fewer_rows_give_back_what_they_promise(tmp_path, rows, accumulation, processes, proposed):
    """A step's rows are dealt out among the processes, and of few rows no micro-batch takes more."""
    hyper = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": accumulation}
    resources = {"nproc_per_node": processes, "parallel": {"zero_stage": 0}}
    given = outlook(tmp_path / "given", rows, hyperparameters=hyper, resources=resources)
    promised = done(given, "hyperparameters.per_device_train_batch_size")
    tokens = [promised[value].work.tokens for value in sorted(promised, reverse=True)]
    assert tokens == sorted(set(tokens), reverse=True)
    assert tokens[0] < given.work.tokens
    for value, of_edit in promised.items():
        lower = hyper | {"per_device_train_batch_size": value}
        after = outlook(tmp_path / str(value), rows, hyperparameters=lower, resources=resources)
        assert after.work.tokens == of_edit.work.tokens
    assert [*promised] == proposed


def test_without_packing_the_longest_rows_may_be_together_in_a_smaller_batch():
    whole, _ = case(packing=False)
    work = dataclasses.replace(whole.work, tokens=4 * 1024 + 4 * 64, labels=4000)
    fewer = done(whole._replace(work=work), "hyperparameters.per_device_train_batch_size")
    assert {rows: of_edit.work.tokens for rows, of_edit in fewer.items()} == {4: 4096, 2: 2048, 1: 1024}
    assert {rows: of_edit.work.labels for rows, of_edit in fewer.items()} == {4: 4000, 2: 2048, 1: 1024}


def test_shorter_rows_are_proposed_where_there_are_longer_ones():
    """In a file of two rows, twice as many that are half as long make up the same micro-batch."""
    whole = case()[0]
    few = whole._replace(work=dataclasses.replace(whole.work, tokens=2048, labels=2048, rows=2, document=256))
    shorter = done(whole, "hyperparameters.max_length")
    assert {length: given.work.tokens for length, given in shorter.items()} == {512: 4096, 256: 2048}
    assert done(few, "hyperparameters.max_length") == {}


def offloads(given: TrainingCase) -> set[Any]:
    found = list(_mends(given, PLENTY))
    return values(found, "hyperparameters.offload_optimizer") | values(found, "hyperparameters.offload_param")


@pytest.mark.parametrize(("device", "home"), [("cpu", "disk"), ("cuda", "cpu")])
def test_what_there_is_no_room_for_elsewhere_stays_on_the_device(device, home):
    given = case(activation_checkpointing="full", optim="adamw_8bit" if device == "cuda" else "adamw")[0]
    setting: Any = dataclasses.replace(given.setting, device=device)
    given = given._replace(setting=setting)
    assert offloads(given._replace(elsewhere=Elsewhere(PLENTY, PLENTY))) == {home}
    assert offloads(given._replace(elsewhere=Elsewhere(1 << 10, 1 << 10))) == set()
    little = Elsewhere(1 << 10, PLENTY) if device == "cpu" else Elsewhere(PLENTY, 1 << 10)
    assert offloads(given._replace(elsewhere=little)) == {home}, "the other place is not asked for room"


def test_a_rank_has_only_its_own_layers_elsewhere():
    given = case(offload_optimizer="disk")[0]
    parts: Any = dataclasses.replace(given.setting, pp_size=2)
    assert given._replace(setting=parts).held_elsewhere().disk < given.held_elsewhere().disk


def test_what_a_run_holds_elsewhere_itself_has_room_there(tmp_path, monkeypatch):
    hyper = {"offload_optimizer": "disk", "max_length": 64, "max_steps": 1}
    spec = runs.sft_spec(**hyper) | {"tuning": {"method": "full"}}
    monkeypatch.setattr(footprint, "room_elsewhere", lambda *_: Elsewhere(PLENTY, 0))
    with runs.opened(runs.sft_run(tmp_path / "run", spec=spec)) as session:
        job: Any = session.spec
        given = footprint.case_of(job, session)
    alone = [mend for mend in _mends(given, PLENTY) if len(mend.edits) == 1]
    assert values(alone, "hyperparameters.activation_checkpointing") == {"full"}
    assert done(given, "hyperparameters.offload_param").keys() == {"disk"}
    assert values(alone, "hyperparameters.offload_param") == set(), "that would take more"


def test_a_plan_knows_what_room_there_is_elsewhere(tmp_path):
    given = outlook(tmp_path / "run", 4, hyperparameters={}, resources={"nproc_per_node": 2})
    whole = room_elsewhere(tmp_path)
    assert given.elsewhere is not None
    assert 0 < given.elsewhere.disk < 0.6 * whole.disk
    assert 0 < given.elsewhere.memory < 0.8 * whole.memory
