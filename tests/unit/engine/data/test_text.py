"""Texts as documents, and the tokenizer that is trained on them."""

import numpy as np
import pytest

from engine.data.corpus import batch_of
from engine.data.source import SourceRow
from engine.data.tokenizer import character_tokenizer, new_tokenizer, train_tokenizer
from engine.errors import DataError
from tests import runs
from tests.runs import text_corpus

TEXTS = [runs.text(8, seed=1), "a cat.", runs.text(3, seed=2)]
ROWS = [SourceRow(line, text) for line, text in enumerate(TEXTS, start=1)]


def test_every_token_is_a_label_once_and_nothing_is_dropped():
    tokenizer = runs.tokenizer()
    corpus = text_corpus(ROWS, tokenizer, 16)
    labels = [batch_of(corpus, [d]).labels_N.numpy() for d in range(len(corpus))]
    assert tokenizer.decode(np.concatenate(labels)) == "".join(text + "<|endoftext|>" for text in TEXTS)
    assert int(corpus.inputs().max()) <= 16


def test_the_bytes_of_the_windows_add_up_to_those_of_the_texts():
    corpus = text_corpus(ROWS, runs.tokenizer(), 16)
    assert corpus.size_bytes() == sum(len(text.encode()) for text in TEXTS)


def test_blocks_of_a_running_text_are_one_document_and_windows_know_their_lines():
    blocks = [SourceRow(1, "the cat\n" * 10, ends=False), SourceRow(11, "the dog\n" * 10, follows=True)]
    corpus = text_corpus(blocks, runs.tokenizer(), 8)
    assert sorted(set(corpus.lines.tolist())) == [1, 11]
    assert int((corpus.ids == 0).sum()) == 2


def test_the_trained_tokenizer_gives_back_any_text():
    tokenizer = train_tokenizer([runs.text(50)], 400)
    text = "Grüße, 世界!\n\n  tabs\tand 🦊"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_trained_tokenizer_is_no_larger_than_asked():
    assert len(train_tokenizer([runs.text(300)], 300)) == 300


def test_the_trained_tokenizer_survives_saving(tmp_path):
    from engine.model.load import load_tokenizer

    tokenizer = runs.tokenizer()
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again("the cat<|user|>")["input_ids"] == tokenizer("the cat<|user|>")["input_ids"]
    assert again.chat_template == tokenizer.chat_template
    assert again.eos_token_id == tokenizer.eos_token_id


def test_texts_without_a_token_to_predict_are_refused():
    tokenizer = runs.tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(DataError, match="none of the 2 texts") as caught:
        text_corpus([SourceRow(1, "a"), SourceRow(2, "")], tokenizer, 16)
    assert caught.value.code == "no_trained_token"
    assert "eos_token" in caught.value.mend


def test_a_character_tokenizer_has_a_token_for_each_character_and_gives_back_the_text():
    text = "Grüße,\n\n  tabs\tand more"
    tokenizer = character_tokenizer([text], 4096)
    assert len(tokenizer) == len(set(text)) + 8
    assert len(tokenizer(text)["input_ids"]) == len(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_character_that_the_text_had_not_is_the_unknown_token():
    tokenizer = character_tokenizer(["abc"], 4096)
    assert tokenizer("aZ")["input_ids"] == [tokenizer("a")["input_ids"][0], tokenizer.unk_token_id]


def test_a_byte_tokenizer_has_a_token_for_each_byte():
    tokenizer = new_tokenizer("byte", ["never read"], 4096)
    assert len(tokenizer) == 256 + 7
    assert len(tokenizer("Grüße")["input_ids"]) == len("Grüße".encode())
