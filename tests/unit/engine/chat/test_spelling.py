"""Tokens as bytes, whatever the vocabulary writes them as."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from engine.chat.spelling import Spelling
from engine.data.tokenizer import new_tokenizer

TEXT = "naïve café 🙂 \ufffd"


def spelt(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[list[int] | None]:
    spelling = Spelling(tokenizer)
    return [spelling.spell(token, first=place == 0)["bytes"] for place, token in enumerate(ids)]


def joined(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return bytes(byte for each in spelt(tokenizer, ids) for byte in each or ()).decode()


@pytest.mark.parametrize("kind", ["byte", "bpe", "char"])
def test_the_bytes_of_all_tokens_together_are_the_text(kind: str):
    tokenizer = new_tokenizer(kind, [TEXT, "the cafe"] * 3, 300)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert joined(tokenizer, ids) == TEXT


def test_bytes_of_no_character_are_escaped_and_told_apart():
    tokenizer = new_tokenizer("byte", (), 300)
    spelling = Spelling(tokenizer)
    told = [spelling.spell(token, first=False) for token in tokenizer("é", add_special_tokens=False)["input_ids"]]
    assert told == [{"token": "\\xc3", "bytes": [0xC3]}, {"token": "\\xa9", "bytes": [0xA9]}]


def test_a_special_token_has_no_bytes_and_a_row_without_a_token_neither():
    tokenizer = new_tokenizer("byte", (), 300)
    spelling = Spelling(tokenizer)
    assert spelling.spell(0, first=False) == {"token": "<|endoftext|>", "bytes": None}
    assert spelling.spell(len(tokenizer) + 7, first=False)["bytes"] is None


def test_a_word_that_was_added_is_spelt_as_it_is_written():
    tokenizer = new_tokenizer("byte", (), 300)
    tokenizer.add_tokens([AddedToken("<é>", special=False)])
    assert joined(tokenizer, tokenizer("a<é>", add_special_tokens=False)["input_ids"]) == "a<é>"


def test_characters_without_a_token_and_spaces_before_words_are_spelt_as_sentencepiece_has_them():
    vocabulary = ["<unk>", "▁the", "▁cat", "s", *(f"<0x{byte:02X}>" for byte in range(256))]
    inner = Tokenizer(models.BPE({token: number for number, token in enumerate(vocabulary)}, [], byte_fallback=True))
    space = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)
    inner.decoder = decoders.Sequence(list(space))  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    ids = [1, 2, 3, *(vocabulary.index(f"<0x{byte:02X}>") for byte in "é".encode()), 1]
    assert joined(tokenizer, ids) == tokenizer.decode(ids) == "the catsé the"
