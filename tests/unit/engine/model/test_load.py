"""Tokenizers load as tokenizer.json has them, whatever class transformers has for the model's family."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer
from transformers.models.qwen2 import Qwen2Tokenizer

from engine.model.load import load_tokenizer
from tests import runs

TEXT = "The cat's   123 houses, and\n\n45 trees."
CHATML = "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}"


def saved(folder: Path, family: str, name: str) -> Path:
    runs.save_base(folder, family)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": name}))
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.mark.parametrize(
    ("family", "name"), [("qwen2", "TokenizersBackend"), ("qwen3", "Qwen2TokenizerFast"), ("llama", "Qwen2Tokenizer")]
)
def test_texts_are_tokenized_as_tokenizer_json_has_it(family: str, name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, family, name)
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids
    assert AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"] != expected
    loaded = load_tokenizer(folder)
    assert loaded(TEXT)["input_ids"] == expected
    assert loaded.decode(expected) == TEXT
    assert (loaded.eos_token, loaded.chat_template) == ("<|endoftext|>", CHATML)
    loaded.save_pretrained(folder)
    assert load_tokenizer(folder)(TEXT)["input_ids"] == expected


def test_a_tokenizer_that_is_its_family_s_own_keeps_its_class(tmp_path: Path) -> None:
    folder = saved(tmp_path, "qwen2", "Qwen2Tokenizer")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert type(load_tokenizer(folder)) is Qwen2Tokenizer


def test_special_tokens_that_the_class_has_by_default_are_kept(tmp_path: Path) -> None:
    folder = saved(tmp_path, "qwen2", "Qwen2Tokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    loaded = load_tokenizer(folder)
    assert loaded.eos_token == loaded.pad_token == "<|endoftext|>"
    assert loaded.eos_token_id == tokenizer.token_to_id("<|endoftext|>")
