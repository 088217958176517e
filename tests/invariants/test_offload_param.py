"""A run whose layers lie in files is the run where they lie in memory, in less of it."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from engine import process
from engine.errors import EXIT_STOPPED
from engine.loop import Training
from engine.model.anatomy import layers_in
from engine.model.forward import decoder_of
from engine.offload import lies_in_file
from engine.parts import TrainingSpec
from tests import runs
from tests.invariants.test_offload import changed, output, told
from tests.invariants.test_saving import contents
from tests.invariants.test_stop import StopAfter
from tests.ranks import MADE, STEPS, Forked, sft
from tests.unit.engine.model.test_layer_offload import resident_in_files

LEARNING = {"offload_param": "disk", "offload_optimizer": "disk"}
FROZEN = {"offload_param": "disk"}


def in_files(root: Path) -> Path:
    tuning = json.loads((root / "job.json").read_text())["spec"].get("tuning", {})
    return changed(root, **(FROZEN if "lora" in tuning.get("method", "") else LEARNING))


def same(one: Path, other: Path) -> bool:
    weights = [next((root / "output").glob("*.safetensors")).read_bytes() for root in (one, other)]
    return weights[0] == weights[1] and runs.losses(one) == runs.losses(other) and contents(one) == contents(other)


@pytest.mark.parametrize("kind", MADE)
def test_it_trains_and_saves_the_same_to_the_bit(tmp_path, kind):
    there, away = MADE[kind](tmp_path / "there"), in_files(MADE[kind](tmp_path / "away"))
    assert runs.carry_out(there) == runs.carry_out(away) == 0
    assert same(there, away)
    messages = [event["message"] for event in runs.events(away, "log") if event["code"] == "offload_on_disk"]
    assert "the layers' weights" in messages[0]


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "mistral"])
@pytest.mark.parametrize("tuning", [{"method": "full"}, {"method": "lora", "r": 4, "lora_dropout": 0.2}])
def test_so_it_does_layer_by_layer_anew(tmp_path, family, tuning):
    roots = [sft(tuning, activation_checkpointing="selective")(tmp_path / name) for name in ("there", "away")]
    for root in roots:
        runs.save_base(root / "model", family)
    there, away = roots[0], in_files(roots[1])
    assert runs.carry_out(there) == runs.carry_out(away) == 0
    assert same(there, away)


def frozen_copy(root: Path) -> Path:
    spec = runs.dpo_spec(max_steps=4) | {"tuning": {"method": "lora", "r": 4, "lora_dropout": 0.2}}
    return runs.dpo_run(root, 40, spec | {"dpo": {"reference": "frozen_copy"}})


def test_a_frozen_copy_lies_in_files_as_well(tmp_path):
    there, away = frozen_copy(tmp_path / "there"), in_files(frozen_copy(tmp_path / "away"))
    with runs.opened(away) as session:
        objective: Any = session.objective
        named = layers_in(decoder_of(objective.frozen)).named_parameters()
        assert all(lies_in_file(weight) for name, weight in named if "lora_" not in name)
    assert runs.carry_out(there) == runs.carry_out(away) == 0
    assert same(there, away)


def test_a_run_begins_with_none_of_them_in_memory(tmp_path):
    """DoRA has read them all."""
    root = runs.sft_run(
        tmp_path / "run", spec=runs.sft_spec(**FROZEN) | {"tuning": {"method": "lora", "use_dora": True}}
    )
    runs.save_base(root / "model", width=256, layers=6)
    with runs.opened(root) as session:
        assert isinstance(session.spec, TrainingSpec)
        assert resident_in_files(root) > 0
        Training(session, session.spec)
        assert resident_in_files(root) == 0


def test_a_subject_that_is_dropped_leaves_its_room_on_the_disk(tmp_path):
    root = in_files(MADE["sft qlora"](tmp_path / "run"))
    with runs.opened(root) as session:
        assert str(root) in Path("/proc/self/maps").read_text()
        session.drop_subject()
        assert str(root) not in Path("/proc/self/maps").read_text()


def made(root: Path, **hyperparameters: str) -> Path:
    return runs.pretrain_run(root, max_steps=6, **hyperparameters)


@pytest.mark.parametrize(("before", "after"), [("disk", "none"), ("none", "disk"), ("disk", "disk")])
def test_a_stopped_run_goes_on_with_it_and_without_it(tmp_path, before, after):
    whole, root = made(tmp_path / "whole"), made(tmp_path / "run", offload_optimizer="disk", offload_param=before)
    assert runs.carry_out(whole) == 0
    assert process.carry_out(root, StopAfter(root, 3)) == EXIT_STOPPED
    assert runs.carry_out(changed(root, offload_param=after)) == 0
    assert output(root) == output(whole)
    assert runs.losses(root) == runs.losses(whole)


def test_ranks_have_files_of_their_own(tmp_path):
    """With rows dealt out, with each row's tokens in parts, and with layers divided."""
    cases = list(product((("sft lora", {}), ("sft full", {"cp_size": 2}), ("sft full", {"pp_size": 2})), (False, True)))
    roots = []
    for number, ((kind, parallel), away) in enumerate(cases):
        root = MADE[kind](tmp_path / str(number))
        spec = json.loads((root / "job.json").read_text())["spec"]
        runs.write_job(root, spec | {"resources": {"device": "cpu", "nproc_per_node": 2, "parallel": parallel}})
        (root / "ranks").mkdir()
        roots.append(in_files(root) if away else root)
    with Forked(tmp_path / "log", zero=False) as ranks:
        ranks.carry_out(2, *roots)
    for there, away in zip(roots[::2], roots[1::2], strict=True):
        assert len(runs.losses(away)) == STEPS
        assert same(there, away)


def wide(root: Path, **hyperparameters: Any) -> Path:
    """A frozen base of which the layers are nearly all."""
    spec = runs.sft_spec(max_steps=2, precision="fp32", **hyperparameters) | {"tuning": {"method": "lora", "r": 4}}
    made = runs.sft_run(root, 40, spec)
    runs.save_base(made / "model", width=512, layers=12)
    return made


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[Path, Path]:
    """In processes of their own."""
    root = tmp_path_factory.mktemp("measured")
    there, away = wide(root / "there"), wide(root / "away", **FROZEN)
    for each in (there, away):
        (begun,) = runs.start_ranks(1, each)
        begun.communicate(timeout=200)
        assert begun.returncode == 0
    return there, away


def test_it_needs_less_memory_by_what_was_planned(measured):
    planned, planned_less = (told(root, "memory_plan") for root in measured)
    held, less = (told(root, "memory_measured") for root in measured)
    saved = planned["total"] - planned_less["total"]
    assert saved > 0.4 * planned["weights"]
    assert held["weights"] == pytest.approx(planned["weights"], rel=0.01)
    assert less["weights"] == pytest.approx(planned_less["weights"], rel=0.01)
    assert 0.9 * saved < held["total"] - less["total"] < 1.25 * planned["weights"]  # what was let go need not come back


def test_it_leaves_no_files(measured):
    _, away = measured
    assert not list(away.glob(".offload-*"))
