"""Loss falls on the answer and on the token that ends it, and on nothing else."""

import pytest

from engine.data.corpus import batch_of
from engine.data.source import SourceRow
from tests import runs
from tests.runs import chat_corpus

CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GENERATION_WITHOUT_END = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|end|>\n' }}{% endfor %}"
)
BARE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TEMPLATES = {"ours": None, "no generation block": CHATML, "generation without end token": GENERATION_WITHOUT_END}
TALK = [
    {"role": "system", "content": "the red house"},
    {"role": "user", "content": "the cat sees"},
    {"role": "assistant", "content": "a dog here"},
    {"role": "user", "content": "and now"},
    {"role": "assistant", "content": "the tree there"},
]


def trained_text(messages, template=None, max_length: int = 256) -> str:
    """What the labels of a row spell."""
    tokenizer = runs.tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    rows = [SourceRow(1, messages)]
    corpus = chat_corpus(rows, tokenizer, max_length=max_length, long_rows="truncate").corpus
    return str(tokenizer.decode(batch_of(corpus, [0]).labels_N.tolist()))


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_the_answers_are_trained(name):
    text = trained_text(TALK, TEMPLATES[name]).replace("<|endoftext|>", "|").replace("<|end|>", "|").replace("\n", "")
    assert text == "a dog here|the tree there|"


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_token_that_ends_the_answer_is_trained(name):
    assert trained_text(TALK, TEMPLATES[name]).rstrip("\n").endswith(("<|endoftext|>", "<|end|>"))


def test_an_answer_that_the_template_leaves_open_is_closed_with_eos():
    assert trained_text(TALK[1:3], BARE).endswith("<|endoftext|>")


def test_a_mask_by_token_id_would_lose_the_end_where_padding_is_eos():
    tokenizer = runs.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    corpus = chat_corpus([SourceRow(1, TALK)], tokenizer, max_length=256, long_rows="truncate").corpus
    labels = batch_of(corpus, [0]).labels_N
    by_id = labels[labels != tokenizer.pad_token_id]
    assert tokenizer.eos_token_id in labels
    assert tokenizer.eos_token_id not in by_id


def test_a_loss_on_every_token_would_train_the_prompt():
    tokenizer = runs.tokenizer()
    corpus = chat_corpus([SourceRow(1, TALK)], tokenizer, max_length=256, long_rows="truncate").corpus
    everything = str(tokenizer.decode(corpus.ids.tolist()))
    assert "the cat sees" in everything
    assert "the cat sees" not in trained_text(TALK)
