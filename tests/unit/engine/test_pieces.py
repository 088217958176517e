"""Pieces of text for tokens."""

import pytest

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


def test_special_tokens_can_be_left_out():
    tokenizer = character_tokenizer(["ab"], 400)
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=True)
    ids = [*tokenizer("ab", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert [detokenizer.add(token) for token in ids] == ["a", "b", ""]
