"""Pieces of text for tokens."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from engine.data.pieces import Detokenizer, pieces
from engine.data.tokenizer import character_tokenizer, new_tokenizer

TEXTS = ["plain words", "naïve café", "東京 🙂 ok", " leading space\n\nlines ", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_together_are_the_text(text):
    tokenizer = new_tokenizer("byte", (), 300)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    made = pieces(ids, tokenizer)
    assert ("".join(made), len(made)) == (text, len(ids))


def test_a_character_appears_with_its_last_byte():
    tokenizer = new_tokenizer("byte", (), 300)
    assert pieces(tokenizer("é", add_special_tokens=False)["input_ids"], tokenizer) == ["", "é"]


def test_bytes_that_are_no_character_are_shown_as_such():
    tokenizer = new_tokenizer("byte", (), 300)
    (first, _) = tokenizer("é", add_special_tokens=False)["input_ids"]
    assert "".join(pieces([first], tokenizer)) == "\ufffd"


BYTES = new_tokenizer("byte", (), 300)
NUMBERS = {token: number for number, token in enumerate(BYTES.convert_ids_to_tokens(range(len(BYTES))))}
BYTE_OF = {byte: NUMBERS[character] for byte, character in bytes_to_unicode().items()}
OFTEN = [*b"a \x80\x98\x9f\xa9\xbd\xbf\xc3\xe0\xed\xef\xf0\xf4\xff"]
"""Bytes of which characters are begun, gone on with and broken off."""


def test_pieces_of_any_bytes_together_are_what_all_of_them_are_read_as():
    rng = random.Random(0)
    for _ in range(500):
        drawn = [rng.choice(OFTEN) if rng.random() < 0.9 else rng.randrange(256) for _ in range(rng.randrange(24))]
        ids = [BYTE_OF[byte] for byte in drawn]
        assert "".join(pieces(ids, BYTES)) == BYTES.decode(ids), bytes(drawn)


def test_pieces_of_tokens_of_several_bytes_together_are_what_they_are_read_as():
    """Some hold the end of one character and the beginning of the next."""
    tokenizer = new_tokenizer("bpe", ["é 🙂🙃 é東京 ö🙂"] * 50, 320)
    rng = random.Random(0)
    for _ in range(500):
        ids = [rng.randrange(7, len(tokenizer)) for _ in range(rng.randrange(16))]
        assert "".join(pieces(ids, tokenizer)) == tokenizer.decode(ids), ids


def test_a_character_after_one_that_was_broken_off_is_told_as_soon_as_it_is_whole():
    made = pieces([BYTE_OF[byte] for byte in (*b"\xf0\x9f\x98", *"é".encode(), *b"a")], BYTES)
    assert made == ["", "", "", "\ufffd", "é", "a"]


def test_special_tokens_can_be_left_out():
    tokenizer = character_tokenizer(["ab"], 400)
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=True)
    ids = [*tokenizer("ab", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert [detokenizer.add(token) for token in ids] == ["a", "b", ""]


def test_the_space_after_a_special_token_that_is_left_out_stays():
    """Decoders of SentencePiece drop the space that a text begins with, and only that."""
    made = Tokenizer(models.WordLevel({"\u2581a": 0, "\u2581b": 1, "</s>": 2}, unk_token="</s>"))
    made.decoder = decoders.Metaspace()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", clean_up_tokenization_spaces=False)
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=True)
    ids = [2, 0, 2, 2, 1]
    assert [detokenizer.add(token) for token in ids] == ["", "a", "", "", " b"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a b"
