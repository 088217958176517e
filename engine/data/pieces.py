"""Tokens as pieces of text, one by one as they come."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerFast

_UNFINISHED = "\ufffd"
_LONGEST_CHARACTER = 4
"""Bytes, and so tokens at most."""


class Detokenizer:
    """What each further token adds to the text; the tokens before a character's last one add nothing.

    A token is decoded beside those before it, for its text may depend on them (a space that words begin with).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, skip_special_tokens: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._before: list[int] = []
        self._open: list[int] = []

    def add(self, token: int) -> str:
        self._open.append(token)
        known = self._text(self._before)
        grown = self._text([*self._before, *self._open])
        if grown.endswith(_UNFINISHED) and len(self._open) < _LONGEST_CHARACTER:
            return ""
        self._before, self._open = self._open, []
        return grown[len(known) :]

    def rest(self) -> str:
        """What a character that was begun and never ended looks like."""
        return self._text([*self._before, *self._open])[len(self._text(self._before)) :] if self._open else ""

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=self._skip))


def pieces(ids: Iterable[int], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """A piece for each token."""
    detokenizer = Detokenizer(tokenizer)
    made = [detokenizer.add(token) for token in ids]
    if made:
        made[-1] += detokenizer.rest()
    return made
