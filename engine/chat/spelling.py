"""Tokens as text and bytes, one by one: a token may hold only a part of a character's bytes."""

import json
import re
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
"""The byte that each character stands for in byte-level vocabularies."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How vocabularies with byte fallback write a byte of a character that has no token."""


class Spelling:
    """The text and bytes of a tokenizer's tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._kinds = _kinds(tokenizer)
        self._added = tokenizer.added_tokens_decoder

    def spell(self, token: int, *, first: bool) -> dict[str, Any]:
        """Return {"token", "bytes"}: bytes that are no whole character are escaped in the text of the token.

        The bytes of all tokens of an answer make up the answer; those of a special token, which adds nothing to it, are
        None. `first`: the token begins an answer, where some tokenizers leave out the space before it.
        """
        spelt = self._bytes(token, first=first)
        if spelt is None:
            return {"token": str(self._tokenizer.decode([token])), "bytes": None}
        return {"token": spelt.decode(errors="backslashreplace"), "bytes": list(spelt)}

    def _bytes(self, token: int, *, first: bool) -> bytes | None:
        name: Any = self._tokenizer.convert_ids_to_tokens(token)
        if token in self._added or name is None:  # a model may have more rows than the vocabulary has tokens
            special = name is None or self._added[token].special
            return None if special else str(name).encode()
        if "ByteLevel" in self._kinds and all(character in _BYTES for character in name):
            return bytes(_BYTES[character] for character in name)
        if "ByteFallback" in self._kinds and (found := _BYTE.fullmatch(name)):
            return bytes.fromhex(found[1])
        return self._text(token, first=first).encode()

    def _text(self, token: int, *, first: bool) -> str:
        """Decode a token; unless it is the first, after another one, on which its text may depend."""
        alone = str(self._tokenizer.decode([token]))
        return alone if first else str(self._tokenizer.decode([token, token]))[len(alone) :]


def _kinds(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    """Return the types of the steps of its decoder."""
    decoder: Any = tokenizer.backend_tokenizer.decoder
    state = json.loads(decoder.__getstate__()) if decoder is not None else {}
    return {str(step.get("type")) for step in state.get("decoders", [state])}
