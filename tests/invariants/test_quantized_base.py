"""An adapter over a base in NF4: the same numbers as PEFT and bitsandbytes by themselves, before and after an evaluation."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from engine.data.corpus import Batch, Corpus, batch_of
from engine.errors import EXIT_DATA
from engine.model.forward import backbone_of, head_of, token_score
from engine.model.load import load_model
from engine.session import Session
from tests import runs

CPU = torch.device("cpu")
IDS = torch.arange(3, 40)[None]


def quantized_run(root: Path, **hyperparameters) -> Path:
    return runs.quantized_run(root, runs.sft_spec(precision="fp32", **hyperparameters))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = quantized_run(tmp_path_factory.mktemp("qlora") / "run", max_steps=12)
    assert runs.carry_out(root) == 0
    return root


def by_peft_alone(root: Path, *, quantized: bool = True) -> torch.Tensor:
    """Logits of the export; in training mode, where bitsandbytes takes no short cuts (there is no dropout)."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=["lm_head", "down_proj"],  # 48 inputs: no multiple of a block
    )
    how = {"quantization_config": config, "device_map": {"": CPU}} if quantized else {}
    base = AutoModelForCausalLM.from_pretrained(root / "model", attn_implementation="eager", **how)
    with torch.no_grad():
        return PeftModel.from_pretrained(base, str(root / "output")).train()(input_ids=IDS).logits


def whole(corpus: Corpus) -> list[int]:
    return list(range(len(corpus)))


def opened_loss(session: Session, documents: list[int]) -> float:
    corpus = session.rows.probe(1000)
    with torch.no_grad():
        return float(token_score(session.subject.model.eval(), batch_of(corpus, documents)).total)


def test_the_loss_falls_over_a_base_in_4_bits(trained):
    losses = runs.losses(trained)
    assert losses[12] < losses[1] - 0.3


def test_the_export_scores_as_peft_and_bitsandbytes_score_it(trained):
    (trained / "checkpoints").rename(trained / "kept")
    shutil.copytree(trained / "output", trained / "adapter")
    with runs.opened(trained) as session, torch.no_grad():
        model: torch.nn.Module = session.subject.model.eval()
        model.get_base_model().set_attn_implementation("eager")  # type: ignore[operator] - PEFT's wrapper
        ours = model(input_ids=IDS).logits
    torch.testing.assert_close(ours, by_peft_alone(trained), rtol=1e-4, atol=1e-4)
    assert float((ours - by_peft_alone(trained, quantized=False)).abs().max()) > 1e-2


def test_an_evaluation_of_the_export_takes_the_base_in_4_bits_again(trained, tmp_path):
    root = tmp_path / "eval"
    settings = {"max_length": 64, "precision": "fp32"}
    runs.write_job(root, {"kind": "eval", "model": "tiny/1", "eval_file": "file-1", "evaluation": settings})
    shutil.copytree(trained / "model", root / "model")
    shutil.copytree(trained / "output", root / "adapter")
    lines = runs.events(trained, "finished")[0]["metrics"]
    held_out = [row for row in (trained / "data" / "train.jsonl").read_text().splitlines() if row]
    with runs.opened(trained) as session:
        assert session.rows.validation is not None
        kept = sorted(set(session.rows.validation.lines.tolist()))
    (root / "data").mkdir()
    (root / "data" / "eval.jsonl").write_text("".join(held_out[line - 1] + "\n" for line in kept))
    assert runs.carry_out(root) == 0
    metrics = runs.events(root, "finished")[0]["metrics"]
    assert metrics["eval_loss"] == pytest.approx(lines["eval_loss"], rel=1e-5)


def test_packed_documents_over_a_base_in_4_bits_score_as_each_alone(tmp_path):
    with runs.opened(quantized_run(tmp_path / "run")) as session:
        documents = whole(session.rows.probe(12))
        packed = opened_loss(session, documents)
        assert packed == pytest.approx(sum(opened_loss(session, [d]) for d in documents), rel=1e-5)


def test_scoring_leaves_the_weights_in_4_bits_as_they_are(tmp_path):
    runs.save_base(tmp_path / "model", width=64)
    model = load_model(tmp_path / "model", device=CPU, in_4bit=True).eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model(input_ids=IDS, position_ids=torch.arange(IDS.shape[1])[None], segments=(IDS.shape[1],), use_cache=False)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize("family", runs.FAMILIES)
def test_the_weights_of_every_family_are_close_to_what_they_were(tmp_path, family):
    runs.save_base(tmp_path / "model", family, width=64)
    exact = dict(load_model(tmp_path / "model", device=CPU).named_parameters())
    model: Any = load_model(tmp_path / "model", device=CPU, in_4bit=True)
    assert len([name for name, p in model.named_parameters() if p.dtype == torch.uint8]) >= 8
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            weight = exact[name + ".weight"]
            read = dequantize_4bit(module.weight.data, module.weight.quant_state)
            gap = (read - (weight if read.shape == weight.shape and family != "gpt2" else weight.T)).norm()
            assert float((gap / weight.norm()).detach()) < 0.12, name


def test_a_model_without_a_layer_that_fits_is_a_spec_error(tmp_path):
    root = quantized_run(tmp_path / "run")
    shutil.rmtree(root / "model")
    runs.save_base(root / "model", width=48)
    assert runs.carry_out(root) == EXIT_DATA
    assert runs.events(root, "failed")[0]["code"] == "not_quantizable"


def test_tuning_all_weights_from_such_an_adapter_starts_at_its_scores(trained, tmp_path):
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(precision="fp32") | {"tuning": {"method": "full"}})
    shutil.rmtree(root / "model")
    shutil.copytree(trained / "model", root / "model")
    shutil.copytree(trained / "output", root / "adapter")
    with runs.opened(root) as session, torch.no_grad():
        batch = Batch(IDS[0], torch.arange(IDS.shape[1]), IDS[0], IDS[0], (IDS.shape[1],), ())
        ours = head_of(session.subject.model)(backbone_of(session.subject.model.eval(), batch))[None]
    torch.testing.assert_close(ours, by_peft_alone(trained), rtol=1e-3, atol=1e-3)
