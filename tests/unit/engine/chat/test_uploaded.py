"""Uploaded templates and tokenizers that are no good: the question is refused, and the engine is not to blame."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.chat import talk
from engine.chat.talks import Talks
from engine.chat.weights import Weights
from engine.errors import DataError, EngineError, SpecError
from engine.precision import Machine
from engine.stop import StopFlag
from tests import runs
from tests.unit.engine.chat.test_talks import asked, texts

RECURSIVE = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    runs.save_base(tmp_path / "model")
    return tmp_path


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def set_template(place: Path, template: str) -> None:
    (place / "model/chat_template.jinja").write_text(template)


def chat(place: Path) -> dict[str, Any]:
    question = asked(place) | {"ask": "chat", "messages": [{"role": "user", "content": "the cat"}]}
    del question["prompts"]
    return question


def refusal(question: dict[str, Any]) -> EngineError:
    weights = Weights(Machine.choose("cpu", "fp32"))
    with pytest.raises(EngineError) as refused:
        list(Talks(lambda: weights).begin(1, question, StopFlag()))
    return refused.value


@pytest.mark.parametrize("template", ["{{ 1 // 0 }}", "{{ 10.0 ** 400 }}", "{{ range(1000000) }}", RECURSIVE])
def test_a_template_that_fails_in_any_way_is_a_fault_of_the_model(place: Path, template: str):
    set_template(place, template)
    error = refusal(chat(place))
    assert isinstance(error, DataError)
    assert error.code == "chat_template_failed"


def test_a_template_that_writes_nothing_makes_an_empty_prompt(place: Path):
    set_template(place, "{# nothing #}")
    assert refusal(chat(place)).code == "invalid_prompt"


def test_a_template_that_only_writes_with_a_question_is_answered(place: Path):
    set_template(place, "{% if messages|length == 1 %}{{ messages[0].content }}{% endif %}")
    weights = Weights(Machine.choose("cpu", "fp32"))
    assert texts(list(Talks(lambda: weights).begin(1, chat(place), StopFlag())))


def test_tokens_that_the_model_does_not_have_are_refused_in_chats_too(tmp_path: Path):
    runs.tokenizer().save_pretrained(tmp_path / "model")
    runs.model(vocab_size=20).save_pretrained(tmp_path / "model")
    assert refusal(chat(tmp_path)).code == "invalid_prompt"


def test_a_tokenizer_that_does_not_load_is_a_fault_of_the_model(place: Path):
    folder = place / "model"
    whole = (folder / "tokenizer_config.json").read_text()
    change(folder / "tokenizer_config.json", eos_token=5)
    assert refusal(chat(place)).code == "tokenizer_not_loaded"
    (folder / "tokenizer_config.json").write_text(whole)
    change(folder / "tokenizer.json", model={"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]})
    assert refusal(chat(place)).code == "tokenizer_not_loaded"


@pytest.mark.parametrize("ask", [chat, asked])
def test_a_tokenizer_that_fails_on_a_text_is_a_fault_of_the_model(place: Path, ask):
    change(place / "model/tokenizer.json", model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"})
    error = refusal(ask(place))
    assert isinstance(error, SpecError)
    assert error.code == "prompt_not_tokenized"


def test_a_text_of_far_too_many_tokens_is_not_tokenized_whole(place: Path, monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(talk, "_PIECE", 4096)
    monkeypatch.setattr(
        talk, "_ids", lambda tokenizer, text, ids=talk._ids: (sizes.append(len(text)), ids(tokenizer, text))[1]
    )
    assert refusal(asked(place, "the cat sees " * 100_000)).code == "context_length_exceeded"
    assert sizes == [4096]


def test_a_long_text_of_few_tokens_is_answered(place: Path, monkeypatch):
    change(place / "model/tokenizer.json", normalizer={"type": "Replace", "pattern": {"Regex": "x+"}, "content": "x"})
    monkeypatch.setattr(talk, "_PIECE", 4096)
    weights = Weights(Machine.choose("cpu", "fp32"))
    assert texts(list(Talks(lambda: weights).begin(1, asked(place, "x" * 100_000), StopFlag())))
