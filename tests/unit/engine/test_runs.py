"""Whole runs in this process: the files that each kind writes, and how runs fail."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.data.source import read_sources, scan
from engine.errors import EXIT_BUG, EXIT_DATA, EXIT_DIVERGED, EXIT_MEMORY, EXIT_OK
from engine.failure import classified
from engine.jobs import SPECS
from engine.kinds.eval.objective import EvalObjective
from engine.kinds.sft.objective import SftObjective
from engine.loop import Training
from engine.model.load import Subject
from engine.objectives import OBJECTIVES
from engine.precision import Machine
from tests import runs


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    root = runs.pretrain_run(tmp_path_factory.mktemp("pretrain") / "run", max_steps=12, learning_rate=0.01)
    assert runs.carry_out(root) == 0
    return root


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    root = runs.sft_run(tmp_path_factory.mktemp("sft") / "run")
    assert runs.carry_out(root) == 0
    return root


def failure(root: Path) -> dict[str, Any]:
    return runs.events(root, "failed")[0]


def change(root: Path, **fields: Any) -> Path:
    job = json.loads((root / "job.json").read_text())
    job["spec"] |= fields
    (root / "job.json").write_text(json.dumps(job))
    return root


def evaluation(root: Path, *, model: Path, adapter: Path | None, data: Path) -> dict[str, float]:
    settings = {"max_length": 64, "precision": "fp32"}
    runs.write_job(root, {"kind": "eval", "model": "tiny/1", "eval_file": "file-1", "evaluation": settings})
    shutil.copytree(model, root / "model")
    if adapter is not None:
        shutil.copytree(adapter, root / "adapter")
    (root / "data").mkdir()
    shutil.copy(data, root / "data" / f"eval{data.suffix}")
    assert runs.carry_out(root) == 0
    return runs.events(root, "finished")[0]["metrics"]


def test_every_kind_of_job_has_an_objective():
    assert OBJECTIVES.keys() == SPECS.keys()


def test_pretraining_tells_its_events_in_order(pretrained):
    told = [event["type"] for event in runs.events(pretrained) if event["type"] not in {"metrics", "log"}]
    assert told == ["started", *["checkpoint"] * 6, "used", "exported", "finished"]


def test_the_start_tells_how_rows_are_attended_to(pretrained):
    assert runs.events(pretrained, "started")[0]["attention"] == "bmm"


def test_pretraining_lowers_the_loss(pretrained):
    losses = runs.losses(pretrained)
    assert losses[12] < losses[1] - 0.5


def test_the_exported_model_loads_with_plain_transformers_and_generates(pretrained):
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "output")
    model = AutoModelForCausalLM.from_pretrained(pretrained / "output")
    ids = tokenizer("the cat", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=4, do_sample=False).shape == (1, ids["input_ids"].shape[1] + 4)


def test_only_the_newest_checkpoints_and_the_best_stay_on_disk(pretrained):
    kept = sorted(path.name for path in (pretrained / "checkpoints").iterdir())
    best = max(event["step"] for event in runs.events(pretrained, "checkpoint") if event["best"])
    assert kept == sorted({"step-00000010", "step-00000012", f"step-{best:08d}"})


def test_figures_of_a_step_are_whole(pretrained):
    values = [e["values"] for e in runs.events(pretrained, "metrics") if e["split"] == "train"][-1]
    assert values.keys() == {
        "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s", "trained_tokens_per_s", "mfu",
        "device_use", "memory_bytes", "step_s", "forward_s", "backward_s", "optimizer_s", "data_wait_s", "epoch", "eta_s",
    }  # fmt: skip
    assert all(value is not None and math.isfinite(value) for value in values.values())


def test_going_on_from_a_finished_pretraining_starts_at_its_loss(pretrained, tmp_path):
    root = runs.pretrain_run(tmp_path / "run", max_steps=2, learning_rate=0.0)
    shutil.copytree(pretrained / "output", root / "model")
    assert runs.carry_out(change(root, model="tiny/1")) == 0
    ends = [runs.events(made, "finished")[0]["metrics"]["eval_loss"] for made in (pretrained, root)]
    assert ends[1] == pytest.approx(ends[0], rel=1e-5)


def test_tuning_exports_an_adapter_that_scores_as_told(tuned, tmp_path):
    data = tuned / "data" / "train.jsonl"
    plain = evaluation(tmp_path / "base", model=tuned / "model", adapter=None, data=data)
    adapted = evaluation(tmp_path / "adapter", model=tuned / "model", adapter=tuned / "output", data=data)
    assert adapted["eval_loss"] < plain["eval_loss"] - 0.5
    assert adapted["eval_rows"] == 60


def test_an_evaluation_of_text_agrees_with_transformers_own_loss(pretrained, tmp_path):
    data = tmp_path / "rows.jsonl"
    runs.write_rows(data, [{"text": "the cat sees a dog."}])
    metrics = evaluation(tmp_path / "run", model=pretrained / "output", adapter=None, data=data)
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "output")
    ids = tokenizer("<|endoftext|>the cat sees a dog.<|endoftext|>", return_tensors="pt")["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(pretrained / "output")
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert metrics["eval_loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert metrics["eval_bits_per_byte"] == pytest.approx(loss * (ids.shape[1] - 1) / math.log(2) / 19, rel=1e-5)


def test_tuning_goes_on_from_an_adapter(tuned, tmp_path):
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(max_steps=1, learning_rate=0.0))
    shutil.copytree(tuned / "output", root / "adapter")
    assert runs.carry_out(root) == 0
    before, after = _adapter(tuned / "output"), _adapter(root / "output")
    assert all(torch.equal(before[name], after[name]) for name in before)


def _adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("family", runs.FAMILIES)
def test_every_family_is_tuned_in_full_under_bf16(tmp_path, family):
    spec = runs.sft_spec(precision="bf16", max_steps=2, learning_rate=0.001, activation_checkpointing=True)
    root = runs.sft_run(tmp_path / "run", spec=spec | {"tuning": {"method": "full"}})
    shutil.rmtree(root / "model")
    runs.save_base(root / "model", family)
    assert runs.carry_out(root) == 0
    assert runs.events(root, "exported")[0]["layout"] == "model"


def test_the_best_checkpoint_is_exported_when_the_last_step_scores_worse(tmp_path):
    root = runs.pretrain_run(tmp_path / "run", max_steps=4, learning_rate=0.01)
    assert runs.carry_out(root) == 0
    job = json.loads((root / "job.json").read_text())
    job["spec"]["hyperparameters"] |= {"max_steps": 8, "learning_rate": 5.0}
    (root / "job.json").write_text(json.dumps(job))
    assert runs.carry_out(root) == 0
    scored = {e["step"]: e["values"]["eval_loss"] for e in runs.events(root, "metrics") if e["split"] == "eval"}
    best = min(scored, key=lambda step: scored[step])
    assert best == 4, "the run was meant to get worse"
    assert runs.events(root, "exported")[-1]["step"] == best
    assert runs.events(root, "finished")[-1]["metrics"]["eval_loss"] == pytest.approx(scored[best], rel=1e-5)
    assert [e["code"] for e in runs.events(root, "log")][-1] == "load_best"


@pytest.mark.parametrize(("off", "exit_code"), [(0.01, EXIT_OK), (0.5, EXIT_BUG)])
def test_an_export_may_score_a_little_other_than_another_machine_told(tmp_path, off: float, exit_code: int):
    root = runs.pretrain_run(tmp_path / "run", max_steps=4, learning_rate=0.01)
    assert runs.carry_out(root) == 0
    path = root / "checkpoints" / "step-00000004" / "state" / "progress.json"
    progress = json.loads(path.read_text())
    progress["best_metrics"]["eval_loss"] *= 1 - off
    path.write_text(json.dumps(progress))
    job = json.loads((root / "job.json").read_text())
    job["spec"]["hyperparameters"] |= {"max_steps": 8, "learning_rate": 5.0}
    (root / "job.json").write_text(json.dumps(job))
    assert runs.carry_out(root) == exit_code
    if exit_code:
        assert runs.events(root, "failed")[-1]["code"] == "export_differs"


def test_a_run_stops_and_is_kept_after_max_minutes(tmp_path):
    root = change(runs.sft_run(tmp_path / "run"), resources={"max_minutes": 1e-6})
    assert runs.carry_out(root) == 0
    assert runs.events(root, "finished")[0]["step"] == 1
    assert "max_minutes_reached" in [e["code"] for e in runs.events(root, "log")]


def test_a_run_that_diverges_names_step_and_lines(tmp_path):
    root = runs.sft_run(
        tmp_path / "run", spec=runs.sft_spec(packing=False, per_device_train_batch_size=1, max_steps=100)
    )
    tokenizer = AutoTokenizer.from_pretrained(root / "model")
    # The self-check at the start uses multiples of 7; this token is only in line 5.
    letter = next(c for c in "QXZVJKWY" if tokenizer(c)["input_ids"][0] % 7)
    rows = runs.answers(19)
    rows[4]["prompt"] += letter
    runs.write_rows(root / "data" / "train.jsonl", rows)
    weights = load_file(root / "model" / "model.safetensors")
    weights["model.embed_tokens.weight"][tokenizer(letter)["input_ids"][0]] = float("nan")
    save_file(weights, root / "model" / "model.safetensors", {"format": "pt"})
    assert runs.carry_out(root) == EXIT_DIVERGED
    assert failure(root)["failure"] == "diverged"
    assert failure(root)["message"].endswith("the rows whose own loss is not a number are from lines 5")


def test_weights_that_are_not_finite_are_a_spec_error(tmp_path):
    root = runs.sft_run(tmp_path / "run")
    weights = load_file(root / "model" / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, root / "model" / "model.safetensors", {"format": "pt"})
    assert runs.carry_out(root) == EXIT_DATA
    assert failure(root)["code"] == "weights_not_finite"


def test_rows_that_cannot_be_read_are_a_data_error(tmp_path):
    root = runs.sft_run(tmp_path / "run")
    (root / "data" / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3}\n')
    assert runs.carry_out(root) == EXIT_DATA
    assert failure(root)["failure"] == "data_error"
    assert "line 2" in failure(root)["message"]


def with_unanswerable_rows(root: Path) -> Path:
    """Every row that the split holds out has a prompt that leaves no room for its answer."""
    path, rows = root / "data" / "train.jsonl", runs.answers(20)
    held_out: set[int] = set()
    while True:
        for at in held_out:
            rows[at]["prompt"] = f"{at} " + "the cat " * 200
        runs.write_rows(path, rows)
        split = read_sources(scan(path, "fine-tune", split_seed=42), None, "fine-tune")
        chosen = {row.line - 1 for row in split.validation}
        if chosen <= held_out:
            return root
        held_out |= chosen


def test_a_split_that_holds_out_nothing_to_score_is_left_out_and_told(tmp_path):
    root = with_unanswerable_rows(runs.sft_run(tmp_path / "run"))
    assert runs.carry_out(root) == 0
    assert "validation_empty" in [e["code"] for e in runs.events(root, "log")]
    assert runs.events(root, "started")[0]["eval_rows"] == 0


def test_a_validation_file_with_nothing_to_score_is_a_data_error(tmp_path):
    root = runs.sft_run(tmp_path / "run")
    runs.write_rows(root / "data" / "validation.jsonl", [{"prompt": "the cat " * 200, "completion": "a dog."}])
    assert runs.carry_out(root) == EXIT_DATA
    assert failure(root)["code"] == "no_trained_token"


def test_rows_longer_than_learned_positions_are_a_spec_error(tmp_path):
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(max_length=512))
    shutil.rmtree(root / "model")
    runs.save_base(root / "model", "gpt2")
    assert runs.carry_out(root) == EXIT_DATA
    assert failure(root)["code"] == "max_length_too_long"


def test_a_job_without_its_model_is_a_spec_error(tmp_path):
    root = runs.sft_run(tmp_path / "run")
    shutil.rmtree(root / "model")
    assert runs.carry_out(root) == EXIT_DATA
    assert failure(root)["code"] == "model_missing"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_running_out_of_memory_has_its_own_class(error):
    told = classified(error)
    assert (told.failure, told.exit_code) == ("out_of_memory", EXIT_MEMORY)
    assert "per_device_train_batch_size" in told.mend


def test_a_run_out_of_memory_tells_what_of_its_spec_would_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    # A machine that really runs out takes others with it.
    monkeypatch.setattr(Training, "carry_out", run_out)
    root = runs.pretrain_run(tmp_path, per_device_train_batch_size=256, max_length=1024)
    assert runs.carry_out(root) == EXIT_MEMORY
    told, failed = runs.events(root)[-2:]
    assert (told["code"], failed["failure"]) == ("memory_mends", "out_of_memory")
    ways = told["data"]["mends"]
    assert len(ways) == 3
    assert all(way["total_bytes"] <= told["data"]["room_bytes"] for way in ways)
    for way in ways:
        assert all(f"{path}={value}" in failed["mend"] for path, value in way["edits"].items())


def test_a_run_out_of_memory_as_its_export_is_loaded_fails_as_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SftObjective.load

    def run_out(objective: SftObjective, folder: Path | None, machine: Machine) -> Subject:
        if folder is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return load(objective, folder, machine)

    monkeypatch.setattr(SftObjective, "load", run_out)
    root = runs.sft_run(tmp_path, spec=runs.sft_spec(max_steps=1))
    assert runs.carry_out(root) == EXIT_MEMORY
    assert runs.events(root)[-1]["failure"] == "out_of_memory"


def test_an_evaluation_out_of_memory_is_told_of_fields_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(EvalObjective, "score", run_out)
    root = runs.write_job(tmp_path, {"kind": "eval", "model": "tiny/1", "eval_file": "file-1"})
    runs.write_rows(root / "data" / "eval.jsonl", runs.answers(4))
    runs.save_base(root / "model")
    assert runs.carry_out(root) == EXIT_MEMORY
    mend = runs.events(root)[-1]["mend"]
    assert "evaluation.per_device_eval_batch_size" in mend
    assert "train" not in mend
