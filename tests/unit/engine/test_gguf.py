"""Models as GGUF: read back by gguf's reader as it is written, and here by transformers' own."""

import json
from pathlib import Path

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


@pytest.mark.parametrize(("kind", "most"), [("f16", 2**-11), ("q8_0", 0.51 / 127)])
def test_rounding_is_that_of_the_type(kind: str, most: float, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    assert main([str(folder), str(tmp_path / "model.gguf"), kind]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["largest_rounding"] <= most
    assert told["size_bytes"] == (tmp_path / "model.gguf").stat().st_size


@pytest.mark.parametrize("family", ["gpt2", "mixtral"])
def test_what_is_not_written_is_refused_with_the_place(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = runs.save_base(tmp_path / "model", family)
    assert main([str(folder), str(tmp_path / "model.gguf")]) == 65
    assert f"config.json: model_type: is {family}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
