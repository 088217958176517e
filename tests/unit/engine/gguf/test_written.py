"""Models as GGUF: read back by gguf's reader as it is written, and here by transformers' own."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.gguf.__main__ import main
from engine.gguf.written import write_gguf
from tests import runs

IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])
"""Within the window of 7 that the Mistral of these tests sees: GGUF has none for it."""


def logits(folder: Path, **how) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **how)
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_transformers_reads_the_same_model_from_the_file(family: str, tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "model", family)
    told = write_gguf(folder, tmp_path / "model.gguf", "f32")
    assert told["largest_rounding"] == 0.0
    read = logits(tmp_path, gguf_file="model.gguf")
    torch.testing.assert_close(read, logits(folder), rtol=1e-4, atol=1e-4)


def test_tokens_are_those_of_the_model(tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "model", "qwen2")
    write_gguf(folder, tmp_path / "model.gguf", "f16")
    ours, theirs = (
        AutoTokenizer.from_pretrained(folder),
        AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf"),
    )
    # transformers splits by the family's own pattern, whatever the file says: digits would part otherwise.
    text = "The cat sees a red house, and then the dogs."
    assert theirs(text)["input_ids"] == ours(text)["input_ids"]
    assert theirs.eos_token == ours.eos_token
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields["tokenizer.chat_template"].contents() == ours.chat_template


@pytest.mark.parametrize(("kind", "most"), [("f16", 2**-11), ("q8_0", 0.57 / 127)])
def test_rounding_is_that_of_the_type(kind: str, most: float, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    assert main([str(folder), str(tmp_path / "model.gguf"), kind]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["largest_rounding"] <= most
    assert told["size_bytes"] == (tmp_path / "model.gguf").stat().st_size


@pytest.mark.parametrize(("kind", "largest"), [("f16", 1e-5), ("q8_0", 1.0), ("q8_0", 1e-3)])
def test_a_model_is_not_refused_for_how_its_weights_are_spread(kind: str, largest: float, tmp_path: Path) -> None:
    """A scale of Q8_0 is rounded too, to fp16, whose steps become no finer below 6e-5."""
    folder = runs.save_base(tmp_path / "model", "llama", width=128)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-largest, largest)
    model.save_pretrained(folder)
    assert 0 < write_gguf(folder, tmp_path / "model.gguf", kind)["largest_rounding"] < 0.01


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_head_of_its_own_is_written_though_the_config_ties_it(tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    change_json(folder / "config.json", tie_word_embeddings=True)
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    expected = logits(folder)  # transformers uses the head that is there
    torch.testing.assert_close(logits(tmp_path, gguf_file="model.gguf"), expected, rtol=1e-4, atol=1e-4)


def test_a_head_equal_to_the_embedding_is_left_out_if_they_are_tied(tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    change_json(folder / "config.json", tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}, folder / "model.safetensors")
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    assert "output.weight" not in {tensor.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}


@pytest.mark.parametrize(
    ("value", "message"),
    [(1e5, "has the value 100000, beyond f16; write f32 or q8_0"), (float("nan"), "has values that are not finite")],
)
def test_a_value_that_the_type_cannot_hold_is_refused(
    value: float, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = value
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, folder / "model.safetensors")
    assert main([str(folder), str(tmp_path / "model.gguf")]) == 65
    value_bf16 = message.replace("100000", f"{torch.tensor(value).bfloat16().item():g}")
    assert f"model.layers.1.mlp.up_proj.weight: {value_bf16}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
}


@pytest.mark.parametrize(
    ("processor", "settings", "expected"),
    [
        (TEMPLATE, {}, (True, False)),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, TEMPLATE]}, {}, (True, False)),
        (TEMPLATE, {"add_bos_token": False}, (False, False)),
        (TEMPLATE, {"add_eos_token": True}, (False, True)),
        (TEMPLATE, {"bos_token": None}, (False, False)),
        (None, {}, (False, False)),
    ],
)
def test_what_texts_begin_and_end_with_is_written(processor: Any, settings: dict[str, Any], expected, tmp_path) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    change_json(folder / "tokenizer.json", post_processor=processor)
    change_json(folder / "tokenizer_config.json", **{"bos_token": "<|endoftext|>", **settings})
    write_gguf(folder, tmp_path / "model.gguf", "f16")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert tuple(fields[f"tokenizer.ggml.add_{end}_token"].contents() for end in ("bos", "eos")) == expected


def test_of_several_templates_the_default_is_written(tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    templates = [{"name": "tools", "template": "with tools"}, {"name": "default", "template": "plain"}]
    change_json(folder / "tokenizer_config.json", chat_template=templates)
    write_gguf(folder, tmp_path / "model.gguf", "f16")
    assert gguf.GGUFReader(tmp_path / "model.gguf").fields["tokenizer.chat_template"].contents() == "plain"


def test_the_name_and_licence_of_a_pulled_model_are_written(tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    write_gguf(folder, tmp_path / "bot.gguf", "f16")
    fields = gguf.GGUFReader(tmp_path / "bot.gguf").fields
    assert fields["general.name"].contents() == "bot"
    assert "general.license" not in fields
    statement = json.dumps({"reference": "helper/3", "licence": "apache-2.0"})
    envelope = {"payload": base64.b64encode(statement.encode()).decode(), "signatures": []}
    (folder / "manifest.dsse.json").write_text(json.dumps(envelope))
    write_gguf(folder, tmp_path / "bot.gguf", "f16")
    fields = gguf.GGUFReader(tmp_path / "bot.gguf").fields
    assert [fields[f"general.{name}"].contents() for name in ("name", "license")] == ["helper/3", "apache-2.0"]


@pytest.mark.parametrize("family", ["gpt2", "mixtral"])
def test_what_is_not_written_is_refused_with_the_place(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = runs.save_base(tmp_path / "model", family)
    assert main([str(folder), str(tmp_path / "model.gguf")]) == 65
    assert f"config.json: model_type: is {family}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def without_merges(told: dict[str, Any]) -> None:
    told["model"]["merges"] = []


def lowercase(told: dict[str, Any]) -> None:
    told["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}


def one_too_many(told: dict[str, Any]) -> None:
    last = told["added_tokens"][-1]
    told["added_tokens"].append(last | {"id": 5000, "content": "<|more|>"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_merges, "has no merges"),
        (lowercase, "normalizes texts in a way"),
        (one_too_many, "has a token with id 5000"),
    ],
)
def test_a_tokenizer_that_cannot_be_written_as_it_is_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    told = json.loads((folder / "tokenizer.json").read_text())
    change(told)
    (folder / "tokenizer.json").write_text(json.dumps(told))
    assert main([str(folder), str(tmp_path / "model.gguf")]) == 65
    assert f"tokenizer.json: {message}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
