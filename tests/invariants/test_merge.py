"""A merged model beside an adapter: a model by itself that scores as the adapter applied, or none at all."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine import merge_offline
from engine.errors import EngineError
from engine.merge_offline import write_whole
from tests import runs

STEPS = 8


def run(
    root: Path,
    tuning: dict[str, Any],
    *,
    family: str = "llama",
    stored: torch.dtype = torch.float32,
    **hyperparameters: Any,
) -> Path:
    given = {"max_steps": STEPS, "precision": "fp32", **hyperparameters}
    runs.write_job(root, runs.sft_spec(**given) | {"tuning": {"r": 4, **tuning}})
    runs.write_rows(root / "data" / "train.jsonl", runs.answers(40))
    fast = runs.tokenizer()
    runs.model(family, vocab_size=len(fast), width=64).to(stored).save_pretrained(root / "model")
    fast.save_pretrained(root / "model")
    assert runs.carry_out(root) == 0, runs.events(root)[-1]
    return root


def losses(root: Path) -> dict[str, float]:
    """What the adapter and its merges score, from the job's result."""
    metrics = runs.events(root, "finished")[0]["metrics"]
    return {name: value for name, value in metrics.items() if name == "eval_loss" or name.startswith("merged_")}


def exports(root: Path) -> list[tuple[str, str, str | None]]:
    return [(event["path"], event["layout"], event["merged_from"]) for event in runs.events(root, "exported")]


def scored_by_itself(root: Path) -> float:
    """eval_loss of an evaluation job that has the merged model for its base."""
    job = root.parent / "evaluation"
    settings = {"max_length": 64, "precision": "fp32"}
    runs.write_job(job, {"kind": "eval", "model": "merged/1", "eval_file": "file-1", "evaluation": settings})
    (job / "model").symlink_to(root / "output-merged")
    with runs.opened(root) as session:
        assert session.rows.validation is not None
        kept = sorted(set(session.rows.validation.lines.tolist()))
    rows = (root / "data" / "train.jsonl").read_text().splitlines()
    runs.write_rows(job / "data" / "eval.jsonl", [json.loads(rows[line - 1]) for line in kept])
    assert runs.carry_out(job) == 0
    return runs.events(job, "finished")[0]["metrics"]["eval_loss"]


ADAPTER = ("output", "adapter", None)
MERGED = ("output-merged", "model", "output")


@pytest.mark.parametrize("tuning", [{}, {"use_dora": True, "modules_to_save": ["lm_head"]}], ids=["lora", "dora, head"])
def test_a_merged_adapter_is_a_second_result_that_scores_as_the_first(tmp_path, tuning):
    root = run(tmp_path / "run", {"method": "lora", "merge": "auto", **tuning})
    assert exports(root) == [ADAPTER, MERGED]
    told = losses(root)
    assert told["merged_original_loss"] == pytest.approx(told["eval_loss"], rel=1e-5)
    assert scored_by_itself(root) == pytest.approx(told["merged_original_loss"], rel=1e-5)
    AutoTokenizer.from_pretrained(root / "output-merged")
    AutoModelForCausalLM.from_pretrained(root / "output-merged")
    assert not list(root.glob(".writing*"))


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("merge") / "run", {"method": "qlora", "merge": "auto"})


def test_of_the_merges_over_a_base_in_4_bits_the_better_one_is_kept(quantized):
    told = losses(quantized)
    merges = told["merged_dequantized_loss"], told["merged_original_loss"]
    assert merges[0] == pytest.approx(told["eval_loss"], abs=1e-4)
    assert abs(merges[1] - told["eval_loss"]) > 0.001  # over the base as it was before, the adapter is another model
    assert exports(quantized) == [ADAPTER, MERGED]
    assert runs.events(quantized, "exported")[1]["metrics"]["eval_loss"] == min(merges)
    assert scored_by_itself(quantized) == pytest.approx(min(merges), abs=1e-4)


def test_an_adapter_over_gpt2_in_4_bits_is_merged_into_a_model_that_loads(tmp_path):
    """Its linear layers lie the other way round: a square one that is turned over is read as another, without a word."""
    root = run(tmp_path / "run", {"method": "qlora", "merge": "auto"}, family="gpt2")
    told = losses(root)
    assert told["merged_dequantized_loss"] == pytest.approx(told["eval_loss"], abs=1e-4)
    assert "merged_original_loss" in told
    full = tmp_path / "full"
    runs.write_job(full, runs.sft_spec(max_steps=2) | {"tuning": {"method": "full"}})
    for name in ("data", "model"):
        (full / name).symlink_to(root / name)
    (full / "adapter").symlink_to(root / "output")
    assert runs.carry_out(full) == 0, runs.events(full)[-1]


def test_a_merge_that_fails_does_not_take_the_other_with_it(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writing-merged-dequantized").symlink_to(tmp_path / "a disk that is gone" / "folder")
    root = run(tmp_path / "run", {"method": "qlora", "merge": "auto"}, max_steps=1)
    assert list(losses(root)) == ["eval_loss", "merged_original_loss"]
    (told,) = [event for event in runs.events(root, "log") if event["code"] == "merge_failed"]
    assert "the base as it reads from 4 bits" in told["message"]


def test_the_merged_model_is_not_in_4_bits_and_says_so(quantized):
    config = json.loads((quantized / "output-merged" / "config.json").read_text())
    assert "quantization_config" not in config
    assert not (quantized / "output-merged" / "quantization_config.json").exists()
    model = AutoModelForCausalLM.from_pretrained(quantized / "output-merged")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_every_merge_that_was_tried_is_told(quantized):
    told = [event for event in runs.events(quantized, "log") if event["code"] == "merge_scored"]
    assert [event["data"]["base"] for event in told] == ["dequantized", "original"]
    figures = losses(quantized)
    assert told[1]["data"]["gap"] == pytest.approx(figures["merged_original_loss"] - figures["eval_loss"], abs=1e-6)


def test_a_merge_asked_for_by_name_is_kept_whatever_it_scores(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.merge._HIGHEST_GAP", -1.0)
    root = run(tmp_path / "run", {"method": "qlora", "merge": "original"})
    assert "merged_dequantized_loss" not in losses(root)
    assert exports(root) == [ADAPTER, MERGED]


def test_a_merge_that_scores_too_high_is_refused_and_the_adapter_is_there_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.merge._HIGHEST_GAP", -1.0)
    root = run(tmp_path / "run", {"method": "lora", "merge": "auto"})
    assert exports(root) == [ADAPTER]
    assert (root / "output" / "adapter_model.safetensors").exists()
    assert not (root / "output-merged").exists()
    assert not list(root.glob(".writing*"))
    assert "merge_refused" in [event["code"] for event in runs.events(root, "log")]
    assert "merged_original_loss" in losses(root)


def test_a_merge_that_fails_leaves_the_adapter_and_says_why(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writing-merged-original").symlink_to(tmp_path / "a disk that is gone" / "folder")
    root = run(tmp_path / "run", {"method": "lora", "merge": "auto"}, max_steps=1)
    assert exports(root) == [ADAPTER]
    assert list(losses(root)) == ["eval_loss"]
    (told,) = [event for event in runs.events(root, "log") if event["code"] == "merge_failed"]
    assert "FileExistsError" in told["message"]


def test_the_merged_model_is_stored_in_the_type_of_its_base(tmp_path):
    # By name: rounding alone may put it more than 0.001 above the adapter, and `auto` would keep none.
    root = run(tmp_path / "run", {"method": "lora", "merge": "original"}, stored=torch.bfloat16, precision="bf16")
    with safe_open(root / "output-merged" / "model.safetensors", "pt") as file:
        types = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 - not a mapping
    assert types == {torch.bfloat16}
    assert losses(root)["merged_original_loss"] == pytest.approx(losses(root)["eval_loss"], abs=0.05)


def test_without_being_asked_for_nothing_is_merged(tmp_path):
    root = run(tmp_path / "run", {"method": "lora"}, max_steps=1)
    assert exports(root) == [ADAPTER]
    assert list(losses(root)) == ["eval_loss"]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(3, 40)[None]).logits


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_an_adapter_is_merged_without_a_job_as_plain_peft_applies_it(tmp_path, stored):
    root = run(tmp_path / "run", {"method": "lora"}, stored=stored)
    told = write_whole(root / "model", root / "output", tmp_path / "whole")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)
    without = logits(base)
    applied = logits(PeftModel.from_pretrained(base, str(root / "output")).eval())
    assert not torch.allclose(applied, without, atol=1e-2)
    rounding = 1e-5 if stored == torch.float32 else 2e-2
    torch.testing.assert_close(logits(merged), applied, atol=rounding, rtol=rounding)
    with safe_open(tmp_path / "whole" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {stored}  # noqa: SIM118 - it is no mapping
    assert told.into == "original"
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").chat_template


def test_an_adapter_trained_over_4_bits_is_merged_into_what_they_read_as(quantized, tmp_path):
    told = {
        into: write_whole(quantized / "model", quantized / "output", tmp_path / into, into)
        for into in ("auto", "original")
    }
    assert (told["auto"].into, told["original"].into) == ("dequantized", "original")
    auto, original = (load_file(tmp_path / into / "model.safetensors") for into in told)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(auto[name], original[name])


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_merge_that_forgets_the_adapter_is_found(tmp_path, monkeypatch, stored):
    root = run(tmp_path / "run", {"method": "lora"}, stored=stored, learning_rate=1e-3)
    monkeypatch.setattr(merge_offline, "merged", lambda applied: applied.unload())
    with pytest.raises(EngineError, match="not the adapter applied"):
        write_whole(root / "model", root / "output", tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_what_cannot_be_merged_leaves_nothing_and_says_why(tmp_path):
    root = run(tmp_path / "run", {"method": "lora"})
    runs.save_base(tmp_path / "other", width=32)
    with pytest.raises(EngineError, match="does not fit"):
        write_whole(tmp_path / "other", root / "output", tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]
    (tmp_path / "whole").mkdir()
    with pytest.raises(FileExistsError):
        write_whole(root / "model", root / "output", tmp_path / "whole")


def test_a_disk_without_room_for_the_merged_model_is_named(tmp_path, capsys):
    root = run(tmp_path / "run", {"method": "lora"}, max_steps=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, hard))
    try:
        code = merge_offline.main([str(root / "model"), str(root / "output"), str(tmp_path / "whole")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 65
    assert f"the merged model cannot be written to {tmp_path}/: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
