"""Streaming detokenization: the piece of text that each token adds."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerFast

_UNFINISHED = "\ufffd"
_LONGEST_CHARACTER = 4
"""Bytes, and so tokens at most."""
_KEPT = 16
"""Tokens, so that many skipped ones in a row are not decoded again with each."""


class Detokenizer:
    """Decodes tokens one by one. A token that begins a character adds nothing until the character is complete.

    Tokens are decoded after those before them, on which their text may depend (a space at the beginning of a word).
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
        text = grown if ended == len(self._open) else self._text([*self._before, *self._open[:ended]])
        # A token that is skipped has no text on which that of the next could depend: some tokens before it are kept.
        kept = self._before[-_KEPT:] if len(text) == len(known) else []
        self._before, self._open = [*kept, *self._open[:ended]], self._open[ended:]
        return text[len(known) :]

    def _ended(self, grown: str) -> int:
        """Return how many of the open tokens decode to the same text whatever follows: the rest may begin a character.

        More than a character's tokens are open where one was begun before it and never completed.
        """
        count = len(self._open)
        if count < _LONGEST_CHARACTER:
            return 0
        return next((at for at in reversed(range(count)) if self._parts_at(at, grown)), count)

    def _parts_at(self, at: int, grown: str) -> bool:
        """Whether the tokens before and from `at` on decode separately to the same text: no character spans `at`."""
        return self._text([*self._before, *self._open[:at]]) + self._text(self._open[at:]) == grown

    def rest(self) -> str:
        """Return the text of a character that was begun and never completed."""
        return self._text([*self._before, *self._open])[len(self._text(self._before)) :] if self._open else ""

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=self._skip))


def pieces(ids: Iterable[int], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return the piece of text of each token."""
    detokenizer = Detokenizer(tokenizer)
    made = [detokenizer.add(token) for token in ids]
    if made:
        made[-1] += detokenizer.rest()
    return made
