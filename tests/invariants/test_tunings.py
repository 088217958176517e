"""Every way of tuning an adapter: merged as applied, packed as unpacked, accumulated as at once, resumed as whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.data.corpus import batch_of
from engine.model.adapters import load_adapter, merged
from engine.model.load import load_model
from engine.session import Session
from tests import runs

CPU = torch.device("cpu")
IDS = torch.arange(3, 40)[None]
STEPS, SAVED = 4, 2
TUNINGS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora"},
    "lora, gpt2": {"method": "lora"},
    "rslora": {"method": "lora", "use_rslora": True},
    "dora": {"method": "lora", "use_dora": True},
    "whole modules": {"method": "lora", "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    "tied modules": {"method": "lora", "modules_to_save": ["lm_head"]},
    "qlora": {"method": "qlora"},
    "qlora, dora, whole head": {"method": "qlora", "use_dora": True, "modules_to_save": ["lm_head"]},
}
EXACT = [name for name, tuning in TUNINGS.items() if tuning["method"] == "lora"]
WITHOUT: dict[str, dict[str, Any]] = {
    "lora": {"lora_alpha": 64},
    "lora, gpt2": {"lora_alpha": 64},
    "rslora": {"use_rslora": False},
    "dora": {"use_dora": False},
    "whole modules": {},
    "tied modules": {},
}
"""What an adapter's configuration says when the mark of its tuning is taken from it."""


def base(folder: Path, *, family: str, tied: bool, width: int) -> None:
    """Tied weights at their usual size: the head would be sure of everything otherwise."""
    fast = runs.tokenizer()
    model = runs.model(family, vocab_size=len(fast), width=width)
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
        model.model.embed_tokens.weight.data /= 5.0
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def run(root: Path, name: str, **hyperparameters: Any) -> Path:
    tuning = TUNINGS[name]
    given = {"max_steps": STEPS, "precision": "fp32", **hyperparameters}
    spec = runs.sft_spec(**given) | {"tuning": {"r": 4, "lora_dropout": 0.2, **tuning}}
    runs.write_job(root, spec)
    runs.write_rows(root / "data" / "train.jsonl", runs.answers(24))
    width = 64 if tuning["method"] == "qlora" else 32
    base(root / "model", family="gpt2" if "gpt2" in name else "llama", tied=name == "tied modules", width=width)
    return root


@pytest.fixture(scope="module", params=TUNINGS)
def trained(request, tmp_path_factory) -> tuple[str, Path]:
    root = run(tmp_path_factory.mktemp("tuning") / "run", request.param)
    assert runs.carry_out(root) == 0, runs.events(root)[-1]
    return request.param, root


def resumed(whole: Path, root: Path) -> Path:
    """A run that has nothing but the first checkpoint of another, gone on with."""
    for name in ("job.json", "data", "model"):
        (shutil.copytree if (whole / name).is_dir() else shutil.copy)(whole / name, root / name)
    step = f"step-{SAVED:08d}"
    shutil.copytree(whole / "checkpoints" / step, root / "checkpoints" / step)
    return root


def weights(root: Path) -> dict[str, torch.Tensor]:
    """Of the last step: an earlier one may be the better and be exported."""
    return load_file(root / "checkpoints" / f"step-{STEPS:08d}" / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_gone_on_with_is_bit_for_bit_the_run_that_was_not_interrupted(trained, tmp_path):
    _, whole = trained
    went_on = resumed(whole, tmp_path)
    assert runs.carry_out(went_on) == 0
    assert runs.events(went_on, "started")[0]["start_step"] == SAVED
    assert same(weights(went_on), weights(whole))


def test_whole_modules_over_a_base_in_bf16_are_gone_on_with_bit_for_bit(tmp_path):
    whole = run(tmp_path / "whole", "whole modules", precision="bf16")
    assert runs.carry_out(whole) == 0
    went_on = resumed(whole, tmp_path)
    assert runs.carry_out(went_on) == 0
    assert same(weights(went_on), weights(whole))
    head = weights(whole)["base_model.model.lm_head.weight"]
    assert not torch.equal(head, head.bfloat16().float()), "the master weights are in fp32"


def test_gone_on_with_without_dropout_the_weights_differ(trained, tmp_path):
    _, whole = trained
    went_on = resumed(whole, tmp_path)
    job = json.loads((went_on / "job.json").read_text())
    job["spec"]["tuning"]["lora_dropout"] = 0.0
    (went_on / "job.json").write_text(json.dumps(job))
    assert runs.carry_out(went_on) == 0
    assert not same(weights(went_on), weights(whole))


def applied(root: Path, adapter: Path) -> torch.Tensor:
    """Logits by transformers and PEFT alone."""
    model = AutoModelForCausalLM.from_pretrained(root / "model", attn_implementation="eager")
    with torch.no_grad():
        return PeftModel.from_pretrained(model, str(adapter))(input_ids=IDS).logits


def of_merged(root: Path, adapter: Path) -> torch.Tensor:
    whole = merged(load_adapter(load_model(root / "model", device=CPU), adapter))
    whole.set_attn_implementation("eager")
    with torch.no_grad():
        return whole(input_ids=IDS).logits


@pytest.mark.parametrize("trained", EXACT, indirect=True)
def test_the_adapter_merged_is_the_adapter_applied(trained):
    _, root = trained
    torch.testing.assert_close(of_merged(root, root / "output"), applied(root, root / "output"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("trained", EXACT, indirect=True)
def test_without_what_sets_the_tuning_apart_the_adapter_scores_otherwise(trained, tmp_path):
    name, root = trained
    wrong = Path(shutil.copytree(root / "output", tmp_path / "adapter"))
    config = json.loads((wrong / "adapter_config.json").read_text())
    (wrong / "adapter_config.json").write_text(json.dumps(config | WITHOUT[name]))
    before = load_file(root / "model" / "model.safetensors")
    if name == "tied modules":
        before["lm_head.weight"] = before["model.embed_tokens.weight"].clone()
    saved = load_file(wrong / "adapter_model.safetensors")
    ours = {key: before.get(key.removeprefix("base_model.model."), value) for key, value in saved.items()}
    save_file(ours, wrong / "adapter_model.safetensors", {"format": "pt"})
    gap = (applied(root, wrong) - applied(root, root / "output")).abs().max()
    assert float(gap) > 1e-3


def scored(session: Session, documents: list[int]) -> tuple[float, torch.Tensor]:
    """Summed loss of the documents in one batch, and its gradients."""
    total = session.loss(batch_of(session.rows.probe(4), documents)).total
    total.backward()
    grads = [p.grad.flatten() for _, p in session.subject.trainable() if p.grad is not None]
    assert len(grads) == len(session.subject.trainable()), "something that is to be trained has no gradient"
    for _, parameter in session.subject.trainable():
        parameter.grad = None
    return float(total.detach()), torch.cat(grads)


def test_documents_in_one_batch_score_and_push_as_each_by_itself(trained):
    _, root = trained
    with runs.opened(root) as session:
        session.subject.model.eval()
        together, pushed = scored(session, [0, 1, 2, 3])
        alone = [scored(session, [document]) for document in range(4)]
    assert together == pytest.approx(sum(loss for loss, _ in alone), rel=1e-5)
    torch.testing.assert_close(pushed, sum(grads for _, grads in alone), rtol=1e-3, atol=1e-4)


def test_with_the_adapter_turned_off_the_model_is_its_base(trained):
    _, root = trained
    with runs.opened(root) as session, torch.no_grad():
        model: Any = session.subject.model.eval()
        batch = batch_of(session.rows.probe(3), [0, 1, 2])
        with model.disable_adapter():
            off = float(session.loss(batch).total)
        on = float(session.loss(batch).total)
        in_4bit = TUNINGS[trained[0]]["method"] == "qlora"
        session.subject.model = load_model(root / "model", device=CPU, in_4bit=in_4bit).eval()
        alone = float(session.loss(batch).total)
    assert off == pytest.approx(alone, rel=1e-6)
    assert on != pytest.approx(alone, rel=1e-3)


def test_with_dropout_on_they_do_not(trained):
    _, root = trained
    with runs.opened(root) as session:
        session.subject.model.train()
        together, _ = scored(session, [0, 1, 2, 3])
        alone = sum(scored(session, [document])[0] for document in range(4))
    assert together != pytest.approx(alone, rel=1e-5)
