"""Tokens as bytes: of a character that takes several tokens each has a part."""

import json
import re
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
"""What vocabularies of byte pairs write each byte as."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""What others write one as, of a character that they have no token for."""


class Spelling:
    """Of a tokenizer's tokens, one by one."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._kinds = _kinds(tokenizer)
        self._added = tokenizer.added_tokens_decoder

    def told(self, token: int, *, first: bool) -> dict[str, Any]:
        """Its text and its bytes, which together are an answer's; the bytes of no character are escaped in the text.

        There are none of a special token, which adds nothing to an answer. With some tokenizers the `first` of an answer
        has no space before it.
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
        """Beside itself, for its text may depend on there being one before it."""
        alone = str(self._tokenizer.decode([token]))
        return alone if first else str(self._tokenizer.decode([token, token]))[len(alone) :]


def _kinds(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    """What its decoder consists of."""
    decoder: Any = tokenizer.backend_tokenizer.decoder
    told = json.loads(decoder.__getstate__()) if decoder is not None else {}
    return {str(part.get("type")) for part in told.get("decoders", [told])}
