"""Models as GGUF: read back by gguf's reader as it is written, and here by transformers' own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
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
