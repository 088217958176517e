"""Conversations as documents: long rows, rows without labels, templates that fail. Masks: tests/invariants."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.data.chat import ChatRecipe, ensure_chat_template
from engine.data.source import SourceRow
from engine.errors import DataError, SpecError
from tests import runs
from tests.runs import chat_corpus


def talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def rows(*talks: list[dict[str, str]]) -> list[SourceRow]:
    return [SourceRow(line, made) for line, made in enumerate(talks, start=1)]  # type: ignore[arg-type]


LONG = talk("the cat sees", "a dog " * 40)
SHORT = talk("the cat sees", "a dog")
UNREACHED = talk("the cat sees " * 40, "a dog")


def test_a_long_row_is_cut_and_counted():
    made = chat_corpus(rows(SHORT, LONG), runs.tokenizer(), max_length=24, long_rows="truncate")
    assert made.truncated == [2]
    assert int(made.corpus.inputs().max()) == 23


def test_the_bytes_of_a_cut_answer_are_those_that_are_scored():
    whole = chat_corpus(rows(SHORT, LONG), runs.tokenizer(), max_length=500, long_rows="truncate").corpus
    cut = chat_corpus(rows(SHORT, LONG), runs.tokenizer(), max_length=24, long_rows="truncate").corpus
    assert whole.sizes_bytes.tolist() == [5, 240]
    assert 0 < cut.sizes_bytes[1] < 100


def test_a_long_row_is_dropped_when_asked():
    made = chat_corpus(rows(SHORT, LONG), runs.tokenizer(), max_length=24, long_rows="drop")
    assert made.dropped == [2]
    assert made.corpus.lines.tolist() == [1]


def test_a_row_whose_answer_is_cut_away_is_left_out_and_told():
    made = chat_corpus(rows(UNREACHED, SHORT), runs.tokenizer(), max_length=24, long_rows="truncate")
    assert made.untrained == [1]
    assert made.corpus.lines.tolist() == [2]


def test_a_data_set_without_a_trained_token_is_refused():
    with pytest.raises(DataError, match="none of the 1 rows"):
        chat_corpus(rows(UNREACHED), runs.tokenizer(), max_length=24, long_rows="truncate")


@pytest.mark.parametrize("template", ["own", "without generation blocks"])
def test_an_answer_of_weight_0_is_read_and_not_trained(template: str):
    tokenizer = runs.tokenizer()
    if template != "own":
        for mark in ("{%- generation -%}", "{%- endgeneration -%}"):
            assert mark in tokenizer.chat_template
            tokenizer.chat_template = tokenizer.chat_template.replace(mark, "")
    first, second = talk("the cat sees", "a dog"), talk("the dog sees", "a cat")
    weighted = [first[0], first[1] | {"weight": 0}, *second]
    made = chat_corpus(rows([*first, *second], weighted), tokenizer, max_length=64, long_rows="drop").corpus
    both, last = made.documents()
    assert both.ids.tolist() == last.ids.tolist()
    answers = [tokenizer.decode(part.ids[part.trained].tolist(), skip_special_tokens=True) for part in (both, last)]
    assert [answer.split() for answer in answers] == [["a", "doga", "cat"], ["a", "cat"]]
    assert last.size_bytes == len("a cat")


def test_a_row_that_the_template_refuses_is_told_with_its_line():
    tokenizer = runs.tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(DataError, match="line 2: no system turn here"):
        chat_corpus(
            rows(SHORT, [{"role": "system", "content": "x"}, *SHORT]), tokenizer, max_length=24, long_rows="drop"
        )


def test_a_tokenizer_without_template_gets_one():
    tokenizer = runs.tokenizer()
    assert not ensure_chat_template(tokenizer)
    tokenizer.chat_template = None
    assert ensure_chat_template(tokenizer)
    assert chat_corpus(rows(SHORT), tokenizer, max_length=64, long_rows="drop").corpus.labels() > 2


def test_a_tokenizer_with_neither_template_nor_eos_is_refused():
    tokenizer = runs.tokenizer()
    tokenizer.chat_template = tokenizer.eos_token = None
    with pytest.raises(SpecError, match="an answer has no end"):
        ensure_chat_template(tokenizer)


@pytest.fixture
def often_interrupted() -> Iterator[None]:
    """Threads take turns in the midst of a row."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("often_interrupted")
def test_threads_that_render_at_once_make_what_one_alone_does():
    """Each file of a mixture has a thread, and transformers keeps one tracker of answers for all of them."""
    tokenizer = runs.tokenizer()
    recipe = ChatRecipe(tokenizer, max_length=64, long_rows="drop")
    files = [
        rows(*(talk("the cat sees", f"a dog {number}") for number in range(first, first + 40))) for first in (0, 1)
    ]
    alone = [recipe.encode(file) for file in files]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(recipe.encode, files * 8))
    assert together[0].trained.any()
    for number, made in enumerate(together):
        assert made.ids.tolist() == alone[number % 2].ids.tolist()
        assert made.trained.tolist() == alone[number % 2].trained.tolist()


def test_several_templates_of_which_none_goes_first_are_refused():
    tokenizer = runs.tokenizer()
    tokenizer.chat_template = {"brief": tokenizer.chat_template, "tools": tokenizer.chat_template}
    with pytest.raises(DataError, match="several chat templates") as refused:
        chat_corpus(rows(SHORT), tokenizer, max_length=64, long_rows="drop")
    assert refused.value.code == "chat_template_failed"
