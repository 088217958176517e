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
        ended = self._ended(grown) if grown.endswith(_UNFINISHED) else len(self._open)
        if not ended:
            return ""
        told = grown if ended == len(self._open) else self._text([*self._before, *self._open[:ended]])
        self._before, self._open = self._open[:ended], self._open[ended:]
        return told[len(known) :]

    def _ended(self, grown: str) -> int:
        """How many of the open tokens are read as what they are, whatever comes: the rest may begin a character.

        More of them are open than it may have where one was begun before it and broken off.
        """
        count = len(self._open)
        if count < _LONGEST_CHARACTER:
            return 0
        return next((at for at in reversed(range(count)) if self._parts_at(at, grown)), count)

    def _parts_at(self, at: int, grown: str) -> bool:
        """Whether the text is the same when it is parted there: nothing is where a character goes on."""
        return self._text([*self._before, *self._open[:at]]) + self._text(self._open[at:]) == grown

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
