"""What is planned of memory is what is held, within a tenth; a plan for something else is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.allocations import peak_of
from engine.errors import SpecError
from engine.footprint import log_memory_plan, state_bytes, weight_bytes
from engine.jobs import JOB_SPEC
from engine.loop import Training
from engine.model import attention, documents, logprobs, loss
from engine.plan import MemoryPlan, Setting, Shape, Workload, memory, plan_memory, workload
from engine.plan.work import parameters_of
from tests import runs

SHAPE = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4}
LENGTH = 128


def training(root: Path, method: str, **hyperparameters: Any) -> Any:
    """A job whose rows fill max_length."""
    given = {"max_length": LENGTH, "per_device_train_batch_size": 8, "max_steps": 1, **hyperparameters}
    if method == "full":
        runs.pretrain_run(root, **given)
        job = json.loads((root / "job.json").read_text())
        job["spec"]["model"] = SHAPE
        (root / "job.json").write_text(json.dumps(job))
        (root / "data" / "train.txt").unlink()
        runs.write_rows(root / "data" / "train.jsonl", [{"text": "the cat sees a dog. " * 800}] * 40)
        return root
    runs.sft_run(root, spec=runs.sft_spec(**given) | {"tuning": {"method": method}})
    runs.save_base(root / "model", width=128)
    runs.write_rows(root / "data" / "train.jsonl", [{"prompt": "the", "completion": "cat " * 2 * LENGTH}] * 40)
    return root


def held_and_planned(root: Path) -> tuple[int, MemoryPlan]:
    (held,), plan = held_in_steps(root, 1)
    return held, plan


def held_in_steps(root: Path, steps: int) -> tuple[list[int], MemoryPlan]:
    """The most that was held in each of so many."""
    with runs.opened(root) as session:
        spec: Any = session.spec
        made = Training(session, spec)
        made.carry_out()
        held = weight_bytes(session.subject.model)
        frozen = getattr(session.objective, "frozen", None)
        held += 0 if frozen is None else weight_bytes(frozen)
        held += state_bytes(made.strategy.optimizer, session.machine.device)
        plan = log_memory_plan(spec, session)
        assert plan is not None
        return [held + peak_of(made._step) for _ in range(steps)], plan


@pytest.mark.parametrize(
    ("method", "hyperparameters"),
    [
        ("full", {"precision": "bf16"}),
        ("full", {"precision": "fp32", "activation_checkpointing": "selective"}),
        ("full", {"precision": "bf16", "offload_optimizer": "disk"}),
        ("full", {"precision": "fp32", "offload_optimizer": "disk", "offload_param": "disk"}),
        ("full", {"precision": "bf16", "offload_optimizer": "disk", "offload_param": "disk"}),
        ("lora", {"precision": "fp32", "activation_checkpointing": "full"}),
    ],
)
def test_a_step_holds_what_was_planned(tmp_path, method, hyperparameters):
    held, plan = held_and_planned(training(tmp_path / "run", method, **hyperparameters))
    assert held == pytest.approx(plan.tensors, rel=0.10)


@pytest.mark.parametrize(
    ("method", "hyperparameters"),
    [
        ("full", {"precision": "fp32"}),
        ("full", {"precision": "bf16"}),
        ("full", {"precision": "bf16", "activation_checkpointing": "selective"}),
        ("lora", {"precision": "fp32", "activation_checkpointing": "full"}),
        ("lora", {"precision": "bf16"}),
    ],
)
def test_a_step_of_gpt2_holds_what_was_planned(tmp_path, method, hyperparameters):
    root = training(tmp_path / "run", "lora", **hyperparameters)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["tuning"] = {"method": method}
    (root / "job.json").write_text(json.dumps(job))
    runs.save_base(root / "model", "gpt2", width=128)
    held, plan = held_and_planned(root)
    assert held == pytest.approx(plan.tensors, rel=0.10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("width", "length", "rows", "checkpointing"),
    [(128, 128, 8, "none"), (128, 128, 8, "full"), (768, 32, 1, "none"), (768, 32, 1, "full")],
)
def test_a_step_of_dora_holds_what_was_planned(tmp_path, precision, width, length, rows, checkpointing):
    """Where rows are few, what it makes of each weight is most of what is held."""
    given = {"per_device_train_batch_size": rows, "max_length": length, "activation_checkpointing": checkpointing}
    root = training(tmp_path / "run", "lora", precision=precision, **given)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["tuning"] = {"method": "lora", "use_dora": True}
    (root / "job.json").write_text(json.dumps(job))
    runs.save_base(root / "model", width=width)
    held, plan = held_and_planned(root)
    assert held == pytest.approx(plan.tensors, rel=0.10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("method", "hyperparameters"),
    [
        ("full", {}),
        ("full", {"offload_optimizer": "disk", "offload_param": "disk"}),
        ("lora", {}),
        ("lora", {"offload_param": "disk"}),
        ("lora", {"activation_checkpointing": "full"}),
        ("qlora", {}),
    ],
)
def test_a_step_beside_a_frozen_copy_holds_what_was_planned(tmp_path, precision, method, hyperparameters):
    """Of a model that is most of what is held."""
    given = {"max_length": 32, "per_device_train_batch_size": 2, "max_steps": 1, "precision": precision}
    spec = runs.dpo_spec(**given | hyperparameters)
    spec |= {"dpo": {"reference": "frozen_copy"}, "tuning": {"method": method}}
    root = runs.dpo_run(tmp_path / "run", spec=spec)
    runs.save_base(root / "model", width=256, layers=4)
    rows = [{"prompt": "the", "chosen": "cat " * 80, "rejected": "dog " * 80}] * 40
    runs.write_rows(root / "data" / "train.jsonl", rows)
    held, plan = held_and_planned(root)
    assert held == pytest.approx(plan.tensors, rel=0.10)


@pytest.mark.parametrize(("precision", "checkpointing"), [("fp32", "none"), ("bf16", "none"), ("fp32", "full")])
@pytest.mark.parametrize("named", [["down_proj"], ["q_proj", "up_proj"], ["model.embed_tokens"], ["lm_head", "norm"]])
def test_a_step_of_modules_that_learn_whole_holds_what_was_planned(tmp_path, precision, checkpointing, named):
    root = training(tmp_path / "run", "lora", precision=precision, activation_checkpointing=checkpointing)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["tuning"] = {"method": "lora", "modules_to_save": named}
    (root / "job.json").write_text(json.dumps(job))
    held, plan = held_and_planned(root)
    assert held == pytest.approx(plan.tensors, rel=0.10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("experts", "chosen", "rows", "checkpointing"),
    [(4, 2, 8, "none"), (16, 4, 2, "none"), (8, 1, 8, "full"), (4, 2, 8, "selective")],
)
def test_a_step_of_experts_holds_what_was_planned(tmp_path, precision, experts, chosen, rows, checkpointing):
    """Where rows are few, the gradients of experts that hardly any token reaches are most of what is held."""
    given = {"per_device_train_batch_size": rows, "activation_checkpointing": checkpointing}
    root = training(tmp_path / "run", "full", precision=precision, **given)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["model"] = SHAPE | {"num_local_experts": experts, "num_experts_per_tok": chosen}
    (root / "job.json").write_text(json.dumps(job))
    held, plan = held_and_planned(root)
    assert held == pytest.approx(plan.tensors, rel=0.10)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "mixtral", "gpt2"])
def test_the_weights_of_each_family_are_counted(family):
    model = runs.model(family)
    shape = Shape.of(model.config.to_dict())
    assert parameters_of(shape) == sum(parameter.numel() for parameter in model.parameters())


CONFIG = {**SHAPE, "num_key_value_heads": 2, "vocab_size": 8192, "tie_word_embeddings": True}


def plan(work: Workload, *, vocabulary: int = 8192, method: str = "full", **hyperparameters: Any) -> MemoryPlan:
    spec = runs.sft_spec(**hyperparameters)
    given = {"method": method}
    job: Any = JOB_SPEC.validate_python(spec | {"tuning": given})
    setting = Setting("cpu", "bf16", job.tuning, job.hyperparameters)
    return plan_memory(Shape.of(CONFIG | {"vocab_size": vocabulary}), work, setting)


WORK = Workload(4096, 4096, 256)


def test_each_way_to_save_memory_is_planned_to_save_some():
    plain = plan(WORK)
    assert plan(WORK, activation_checkpointing="full").activations < 0.6 * plain.activations
    assert plan(WORK, optim="adamw_8bit").optimizer < 0.3 * plain.optimizer
    assert plan(WORK, offload_optimizer="disk").optimizer < 0.6 * plain.optimizer
    learning: Any = {"offload_param": "disk", "offload_optimizer": "disk"}
    assert plan(WORK, **learning).weights < 0.8 * plain.weights
    assert plan(WORK, **learning).workspace < 0.6 * plain.workspace
    assert plan(WORK, method="qlora", offload_param="disk").weights < plan(WORK, method="qlora").weights
    assert plan(WORK, method="lora").gradients < 0.2 * plain.gradients
    assert plan(WORK, method="qlora").weights < plan(WORK, method="lora").weights


def test_logits_are_planned_flat_as_the_vocabulary_grows():
    small, large = (plan(WORK, vocabulary=size, method="lora") for size in (8_192, 131_072))
    assert large.logits == small.logits
    assert large.weights > small.weights


def test_the_plan_knows_the_sizes_that_the_engine_works_in():
    assert memory._CHUNK_LOGITS == loss._CHUNK_LOGITS
    assert memory._KEPT_LOGITS == logprobs._KEPT_LOGITS
    assert (workload.BLOCK, workload.KEEP_UP_TO) == (documents.BLOCK, attention._KEEP_UP_TO)
    for vocabulary in (2_000, 8_192, 50_257, 151_936):
        assert loss.chunks(100_000, vocabulary)[0] == slice(0, memory.chunk_rows(vocabulary))


def test_a_model_of_another_family_has_no_plan():
    with pytest.raises(SpecError, match="mamba"):
        Shape.of({"model_type": "mamba"})


def test_a_run_tells_its_plan_and_what_it_held(tmp_path):
    root = runs.pretrain_run(tmp_path / "run", max_steps=2)
    assert runs.carry_out(root) == 0
    told = {event["code"]: event["data"] for event in runs.events(root, "log")}
    assert told["memory_plan"]["weights"] == pytest.approx(told["memory_measured"]["weights"], rel=0.01)
    assert told["memory_plan"]["optimizer"] == pytest.approx(told["memory_measured"]["optimizer"], rel=0.01)
    assert told["memory_measured"]["total"] > 0


@pytest.mark.parametrize(("accumulation", "processes", "rows"), [(1, 1, 8), (1, 4, 2), (2, 4, 4), (3, 2, 6), (4, 4, 8)])
def test_a_rank_takes_no_more_without_gradients_than_it_trains_on_at_once(tmp_path, accumulation, processes, rows):
    given = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": accumulation, "max_length": 64}
    resources = {"nproc_per_node": processes, "parallel": {"zero_stage": 0}}
    spec = runs.dpo_spec(**given) | {"resources": resources}
    with runs.opened(runs.dpo_run(tmp_path / "run", spec=spec)) as session:
        objective: Any = session.objective
        assert session.token_budget == rows * 64
        assert objective._token_budget() == 2 * rows * 64
