"""What is foretold of a job is what it comes to: steps, tokens and operations exactly; and what fits is told from what does not."""

import dataclasses
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from engine.data import source, training
from engine.errors import SpecError
from engine.forecast import duration, forecast
from engine.forecast import training as outlooks
from engine.forecast.case import TrainingCase
from engine.forecast.room import Elsewhere, _granted, mend_of, ways_out
from engine.forecast.runtime import Runtime
from engine.jobs import JOB_SPEC
from engine.plan import Effort, Efforts, Setting, Shape, Workload
from engine.plan.memory import CODE_BYTES
from engine.stop import StopFlag
from tests import runs
from tests.invariants.test_memory_plan import CONFIG


def foretold(root: Path, past: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return forecast(root, {"past": past or []}, StopFlag())


def sft(root: Path, **hyperparameters: Any) -> Path:
    return runs.sft_run(root, spec=runs.sft_spec(**hyperparameters))


def dpo(root: Path, **hyperparameters: Any) -> Path:
    return runs.dpo_run(root, spec=runs.dpo_spec(**hyperparameters))


def full(root: Path, **hyperparameters: Any) -> Path:
    return runs.sft_run(root, spec=runs.sft_spec(**hyperparameters) | {"tuning": {"method": "full"}})


def experts(root: Path, **hyperparameters: Any) -> Path:
    spec = json.loads((runs.pretrain_run(root, **hyperparameters) / "job.json").read_text())["spec"]
    return runs.write_job(root, spec | {"model": spec["model"] | {"num_local_experts": 8, "num_experts_per_tok": 3}})


@pytest.mark.parametrize(
    ("kind", "hyperparameters"),
    [
        (sft, {"max_steps": None, "num_train_epochs": 1.5, "gradient_accumulation_steps": 2}),
        (sft, {"packing": False, "max_steps": 5, "max_length": 24}),
        (dpo, {"max_steps": None, "num_train_epochs": 1}),
        (runs.pretrain_run, {"max_steps": 7}),
        (experts, {"max_steps": 4}),
        (experts, {"max_steps": 4, "precision": "bf16"}),
        (full, {"max_steps": 4}),
        (full, {"max_steps": 4, "precision": "bf16", "packing": False}),
        (dpo, {"max_steps": 4, "precision": "bf16"}),
    ],
)
def test_steps_tokens_and_operations_are_those_of_the_run(tmp_path, kind, hyperparameters):
    root = kind(tmp_path / "run", **hyperparameters)
    told = foretold(root)
    assert runs.carry_out(root) == 0
    (used,) = runs.events(root, "used")
    assert {name: told[name] for name in ("steps", "tokens", "trained_tokens")} == {
        name: used[name] for name in ("steps", "tokens", "trained_tokens")
    }
    assert told["exact"]
    assert told["effort"].keys() == used["effort"].keys()
    for part, effort in told["effort"].items():
        assert effort == pytest.approx(used["effort"][part])
    assert used["part_seconds"].keys() == {"steps", "scoring", "samples"}
    assert told["flops"]["training"] == used["flops"]
    done = [event["values"] for event in runs.events(root, "metrics") if event["split"] == "train"]
    (started,) = runs.events(root, "started")
    assert used["flops"] == pytest.approx(
        sum(step["mfu"] * step["step_s"] for step in done) * started["matmul_tflops"] * 1e12
    )


def test_a_plan_leaves_nothing_to_the_machine_and_makes_the_same_run(tmp_path):
    root = sft(tmp_path / "run")
    spec = foretold(root)["spec"]
    assert spec["hyperparameters"]["precision"] in {"fp32", "bf16"}
    assert spec["resources"]["device"] == "cpu"
    again = runs.sft_run(tmp_path / "again", spec=spec)
    assert [runs.carry_out(made) for made in (root, again)] == [0, 0]
    assert runs.losses(root) == runs.losses(again)
    assert (root / "rows.bin").read_bytes() == (again / "rows.bin").read_bytes()


def case(**hyperparameters: Any) -> tuple[TrainingCase, Any]:
    spec: Any = JOB_SPEC.validate_python(
        runs.sft_spec(
            **{"per_device_train_batch_size": 8, "max_length": 1024, "gradient_accumulation_steps": 1} | hyperparameters
        )
        | {"tuning": {"method": "full"}}
    )
    setting = Setting("cpu", "bf16", spec.tuning, spec.hyperparameters)
    shape, work = Shape.of(CONFIG | {"vocab_size": 32_000}), Workload(8192, 8192, 1024, rows=8)
    return TrainingCase(spec, shape, work, setting, None), spec


def test_what_does_not_fit_is_told_the_fewest_edits_that_make_it_fit():
    given, _ = case()
    needed = given.plan().total
    small = mend_of(given, needed - 1)
    assert small is not None
    assert [edit.path for edit in small.edits] == ["hyperparameters.activation_checkpointing"]
    tight = mend_of(given, given.plan().runtime + (given.plan().tensors // 3))
    assert tight is not None
    assert 1 < len(tight.edits) <= 3
    assert mend_of(given, 1 << 20) is None


def test_the_edits_lead_to_the_memory_that_they_promise():
    given, spec = case()
    mend = mend_of(given, given.plan().total - 1)
    assert mend is not None
    hyper = spec.hyperparameters.model_copy(update={"activation_checkpointing": "full"})
    changed = given._replace(setting=dataclasses.replace(given.setting, hyperparameters=hyper))
    assert mend.total == changed.plan().total


def test_a_job_that_ran_out_of_memory_is_told_three_ways_that_fit_each_by_other_fields():
    given, _ = case()
    room = round(0.75 * given.plan().total)
    ways = ways_out(given, room)
    assert len(ways) == 3
    assert all(way.total <= room for way in ways)
    fields = [{edit.path for edit in way.edits} for way in ways]
    assert not [1 for one, other in combinations(fields, 2) if one <= other or other <= one]


def test_no_way_out_is_told_where_there_is_none():
    assert ways_out(case()[0], 1 << 20) == []


def test_on_a_cpu_the_disk_is_a_way_out_that_does_not_go_with_8_bits():
    given, _ = case(activation_checkpointing="full")
    changes = {(edit.path, edit.value): change for edit, change in given.edits()}
    away = changes["hyperparameters.offload_optimizer", "disk"](given)
    (way,) = [way for way in ways_out(given, away.plan().total) if "offload_optimizer" in way.edits[0].path]
    assert [*way.edits] == [("hyperparameters.offload_optimizer", "disk")]
    assert way.total == away.plan().total < given.plan().total - 0.5 * given.plan().optimizer
    both: Any = changes["hyperparameters.optim", "adamw_8bit"](away)
    with pytest.raises(SpecError, match="8-bit state"):
        both.plan()


def test_a_plan_tells_what_the_run_will_keep_on_the_disk(tmp_path):
    assert foretold(full(tmp_path / "memory"))["on_disk_bytes"] == 0
    root = full(tmp_path / "disk", offload_optimizer="disk", max_steps=1)
    told = foretold(root)
    assert runs.carry_out(root) == 0
    (event,) = [event for event in runs.events(root, "log") if event["code"] == "offload_on_disk"]
    assert told["on_disk_bytes"] == event["data"]["on_disk_bytes"] > 0


def test_what_has_no_room_on_the_disk_does_not_fit(tmp_path, monkeypatch):
    root = full(tmp_path / "run", offload_optimizer="disk")
    told = foretold(root)
    assert (told["fits"], told["short_of"]) == (True, [])
    monkeypatch.setattr(outlooks, "room_elsewhere", lambda *_: Elsewhere(1 << 50, 0))
    told = foretold(root)
    assert (told["fits"], told["short_of"], told["mend"]) == (False, ["disk"], None)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_so_it_does_of_weights(tmp_path, method):
    given = {"offload_param": "disk", "max_steps": 1} | ({"offload_optimizer": "disk"} if method == "full" else {})
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(**given) | {"tuning": {"method": method}})
    runs.save_base(root / "model", width=64)
    told = foretold(root)
    assert runs.carry_out(root) == 0
    (event,) = [event for event in runs.events(root, "log") if event["code"] == "offload_on_disk"]
    assert told["on_disk_bytes"] == event["data"]["on_disk_bytes"] > 0


def test_a_rank_of_a_pipeline_keeps_on_the_disk_what_is_of_its_layers(tmp_path):
    alone = foretold(full(tmp_path / "one", offload_optimizer="disk"))["on_disk_bytes"]
    root = full(tmp_path / "two", offload_optimizer="disk")
    spec = json.loads((root / "job.json").read_text())["spec"]
    runs.write_job(root, spec | {"resources": {"nproc_per_node": 2, "parallel": {"pp_size": 2}}})
    assert alone / 2 <= foretold(root)["on_disk_bytes"] < 0.6 * alone


def test_on_a_gpu_the_state_goes_to_the_cpu():
    given, _ = case()
    edits = list(given._replace(setting=dataclasses.replace(given.setting, device="cuda")).edits())
    assert [edit.value for edit, _ in edits if edit.path == "hyperparameters.offload_optimizer"] == ["cpu"]


def test_ranks_divide_as_little_as_lets_each_fit():
    large = Shape.of(CONFIG | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32})
    given = case(activation_checkpointing="full")[0]._replace(ranks=4, shape=large)
    totals = [given._replace(zero_stage=stage).plan().total for stage in range(4)]
    assert totals == sorted(totals, reverse=True)
    assert [given.in_room(total).zero_stage for total in totals] == [0, 1, 2, 3]
    assert given.in_room(1).zero_stage == 3
    assert given._replace(ranks=1).in_room(1).zero_stage == 0, "one rank has nobody to divide with"


def test_ranks_that_cannot_fit_hold_as_little_as_they_can():
    """Of a small model stage 3 fetches all weights at once, and has gradients of its own from the start."""
    given = case()[0]._replace(ranks=4)
    totals = [given._replace(zero_stage=stage).plan().total for stage in range(4)]
    assert given.in_room(1).zero_stage == totals.index(min(totals)) == 2


def test_ranks_that_do_not_fit_are_told_to_divide_more():
    given = case(activation_checkpointing="full")[0]._replace(ranks=2)
    mend = mend_of(given, given.plan().total - 1)
    assert mend is not None
    assert [edit.path for edit in mend.edits] == ["hyperparameters.optim"]
    ways = ways_out(given, given._replace(zero_stage=1).plan().total)
    assert "resources.parallel.zero_stage" in {edit.path for way in ways for edit in way.edits}
    changes = {(edit.path, edit.value): change for edit, change in given.edits()}
    both = changes["hyperparameters.optim", "adamw_8bit"](changes["resources.parallel.zero_stage", 1](given))
    with pytest.raises(SpecError, match="8-bit state"):
        both.plan()  # so no mend has the two together


def test_a_plan_of_two_processes_says_how_they_divide_what_one_holds(tmp_path):
    alone = foretold(sft(tmp_path / "alone"))
    root = tmp_path / "two"
    told = foretold(runs.sft_run(root, spec=runs.sft_spec() | {"resources": {"nproc_per_node": 2}}))
    assert (told["ranks"], told["zero_stage"]) == (2, 0)
    assert told["spec"]["resources"]["parallel"] == {
        "zero_stage": 0,
        "tp_size": 1,
        "cp_size": 1,
        "ep_size": 1,
        "pp_size": 1,
    }
    assert told["room_bytes"] < 0.6 * alone["room_bytes"]
    spec = runs.sft_spec() | {"resources": {"nproc_per_node": 2, "parallel": {"zero_stage": 3}}}
    divided = foretold(runs.sft_run(tmp_path / "divided", spec=spec))
    assert divided["spec"]["resources"]["parallel"] == {
        "zero_stage": 3,
        "tp_size": 1,
        "cp_size": 1,
        "ep_size": 1,
        "pp_size": 1,
    }
    assert divided["memory"]["optimizer"] == -(-told["memory"]["optimizer"] // 2)


def test_a_plan_of_what_cannot_be_divided_is_refused_as_its_run_would_be(tmp_path):
    spec = runs.sft_spec(optim="adamw_8bit") | {"resources": {"nproc_per_node": 2, "parallel": {"zero_stage": 1}}}
    with pytest.raises(SpecError, match="8-bit state"):
        foretold(runs.sft_run(tmp_path / "run", spec=spec))


def runs_of(rate: float, start_s: float, count: int, noise: float = 0.0) -> list[duration.Past]:
    """Runs of a machine of that many operations a second, the newest first."""
    return [run_of(number * 1e12, rate, start_s, 1 + noise * (-1) ** number) for number in range(1, count + 1)]


def efforts(flops: float) -> Efforts:
    """Steps, and evaluations that are a fifth of them."""
    steps = Effort(flops=flops, passes=flops / 1e10, updates=flops / 1e6)
    return Efforts(steps, Effort(flops=flops / 5, passes=flops / 1e11), Effort(written=1e6))


def run_of(flops: float, rate: float, start_s: float, off: float = 1.0, method: str = "lora") -> duration.Past:
    """Scoring is twice as quick as learning."""
    seconds = {"steps": off * flops / rate, "scoring": off * flops / 5 / (2 * rate), "around": off * start_s}
    return duration.Past(method, efforts(flops), seconds)


def test_times_are_learned_from_runs_that_have_ended():
    wanted = efforts(3e13)
    naive = duration.estimate(wanted, "lora", [], matmul_tflops=1.0)
    learned = duration.estimate(wanted, "lora", runs_of(5e10, 8.0, 20), matmul_tflops=1.0)
    assert learned.expected == pytest.approx(1.1 * 3e13 / 5e10 + 8.0, rel=0.1)
    assert naive.expected < learned.expected / 2
    assert (naive.low, naive.high) == (naive.expected / 2, naive.expected * 2)


def test_the_interval_is_as_wide_as_the_runs_were_off():
    wanted = efforts(1e13)
    sure = duration.estimate(wanted, "lora", runs_of(5e10, 8.0, 20), matmul_tflops=1.0)
    unsure = duration.estimate(wanted, "lora", runs_of(5e10, 8.0, 20, noise=0.3), matmul_tflops=1.0)
    assert sure.high / sure.expected < unsure.high / unsure.expected
    assert unsure.low < unsure.expected < unsure.high


def steps_of(layers: int, flops_a_pass: float, seconds: float) -> duration.Past:
    steps = Effort(flops=layers * flops_a_pass, passes=float(layers))
    return duration.Past("lora", Efforts(steps, Effort(), Effort()), {"steps": seconds, "scoring": 0.0, "around": 1.0})


def test_passes_by_modules_are_learned_apart():
    """Of the same operations and passes, half of the runs go through transformers' own modules and take four times as long."""

    def run(seconds: float, by_modules: float) -> duration.Past:
        steps = Effort(flops=1e11, passes=400.0, by_modules=by_modules)
        return duration.Past(
            "full", Efforts(steps, Effort(), Effort()), {"steps": seconds, "scoring": 0.0, "around": 4.0}
        )

    past = [run(2.0, 0.0), run(8.0, 400.0)] * 5
    for seconds, by_modules in ((2.0, 0.0), (8.0, 400.0)):
        told = duration.estimate(run(0.0, by_modules).efforts, "full", past, matmul_tflops=0.1)
        assert told.expected == pytest.approx(seconds + 4.0, rel=0.1)


def test_what_runs_like_it_took_beyond_the_fit_is_taken_as_well():
    """The rate of operations rises with the size of a pass: no one rate and no time of a pass is right for all three."""
    past = [
        steps_of(100 * number, size, 100 * number * size / rate)
        for number in range(1, 7)
        for size, rate in ((1e9, 1e10), (1e10, 4e10), (1e11, 5e10))
    ]
    asked = steps_of(350, 1e10, 0.0)
    told = duration.estimate(asked.efforts, "lora", past, matmul_tflops=0.1)
    assert told.expected == pytest.approx(350 * 1e10 / 4e10 + 1, rel=0.1)


def test_memory_besides_tensors_is_taken_from_runs_on_such_a_device(tmp_path):
    root = sft(tmp_path / "run", precision="fp32")
    past = {"method": "lora", "precision": "fp32", "seconds": 9.0, "effort": efforts(1e9).as_json()}
    past["part_seconds"] = {"steps": 5.0, "scoring": 1.0}
    of_two = past | {"device": "cpu", "ranks": 2, "runtime_bytes": 456 << 20}
    told = foretold(root, [of_two, past | {"device": "cpu", "ranks": 1, "runtime_bytes": 123 << 20}])
    assert told["memory"]["runtime"] == 123 << 20
    assert told["memory"]["total"] == sum(size for name, size in told["memory"].items() if name != "total")


def test_of_a_gpu_past_runs_do_not_tell_of_the_context_which_stays_in_the_plan():
    """Its allocator knows nothing of it."""
    given, _ = case()
    gpu: Any = dataclasses.replace(given.setting, device="cuda")
    context = given._replace(setting=gpu).plan().runtime
    held = [given._replace(setting=gpu, runtime=learnt).plan().runtime for learnt in (-1, 9 << 20, 2 * context)]
    assert held == [context, context, 2 * context]
    assert given._replace(runtime=9 << 20).plan().runtime == 9 << 20


@pytest.mark.parametrize(("limit", "granted"), [("1000", 1000 - 700 + 200 + 50 + 10), ("400", 0), ("max", None)])
def test_a_container_has_what_its_group_may_still_take(tmp_path, limit, granted):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 450\ninactive_file 200\nactive_file 50\nslab_reclaimable 10\n")
    assert _granted(tmp_path) == granted
    assert _granted(tmp_path / "elsewhere") is None


def test_a_run_that_may_stop_early_is_not_foretold_exactly(tmp_path):
    patient = runs.sft_spec() | {"checkpoints": {"early_stopping_patience": 2}}
    held_out = runs.sft_run(tmp_path / "held_out", spec=patient)
    runs.write_rows(held_out / "data" / "validation.jsonl", runs.answers(8))
    assert not foretold(held_out)["exact"]
    told = foretold(runs.sft_run(tmp_path / "run", 4, spec=patient))
    assert (told["validation_rows"], told["exact"]) == (0, True)


def ended(shapes: float, held: float) -> dict[str, Any]:
    steps = Effort(shapes=shapes)
    return {"effort": Efforts(steps, Effort(), Effort()).as_json(), "runtime_bytes": round(held)}


def test_the_code_of_a_shape_is_learnt_from_runs_that_had_more_of_them_and_fewer():
    past = [ended(shapes, 5e8 + 7e5 * shapes) for shapes in (60, 120, 240, 480, 960)]
    learnt = Runtime.learnt(past)
    assert learnt is not None
    assert learnt.bytes(700) == pytest.approx(5e8 + 7e5 * 700, rel=0.02)
    assert learnt.bytes(0) == pytest.approx(5e8, rel=0.02)


def test_runs_without_new_shapes_tell_of_none():
    learnt = Runtime.learnt([ended(0, held) for held in (4e8, 5e8, 9e8)])
    assert learnt == Runtime(5e8, CODE_BYTES)
    assert Runtime.learnt([]) is None


def test_a_file_of_many_windows_whose_rows_are_cut_is_foretold_as_often_as_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "WINDOW_BLOCKS", 2)
    monkeypatch.setattr(source, "BLOCK_BYTES", 2000)
    spec = runs.sft_spec(max_steps=None, num_train_epochs=1.5, max_length=24, per_device_train_batch_size=8)
    root = runs.sft_run(tmp_path / "run", 200, spec)
    once, again = foretold(root), foretold(root)
    assert once["steps"] == again["steps"]
    told = [event["message"] for event in runs.events(root, "log") if event["code"] == "rows_truncated"]
    assert [message for message in told if "of the first training rows" in message], "there are several windows"


def test_what_a_forecast_says_is_json(tmp_path):
    assert json.loads(json.dumps(foretold(sft(tmp_path / "run"))))


def test_no_adapter_is_proposed_for_a_mixture_of_experts():
    given, _ = case()
    mixture = given._replace(shape=dataclasses.replace(given.shape, experts=4, chosen=2))
    tunings = [{edit.value for edit, _ in each.edits() if edit.path == "tuning.method"} for each in (given, mixture)]
    assert tunings == [{"lora", "qlora"}, set()]
