"""The text of an answer as far as it can be told: what may yet turn out to be a stop string is held back."""

from collections.abc import Sequence

from engine.data.pieces import Detokenizer


class Spoken:
    """Takes tokens, gives text; nothing of a stop string and nothing after it is ever told."""

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stop = stop
        self._held = ""
        self._stopped = False

    def add(self, token: int) -> str:
        return self._told(self._detokenizer.add(token))

    def rest(self) -> str:
        """What was held back, at the end of an answer."""
        told = self._told(self._detokenizer.rest())
        rest, self._held = self._held, ""
        return told if self._stopped else told + rest

    def _told(self, more: str) -> str:
        if self._stopped:
            return ""
        text = self._held + more
        ends = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self._stopped, self._held = True, ""
            return text[: min(ends)]
        keep = max((_begun(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _begun(text: str, stop: str) -> int:
    """How many of its last characters a stop string may begin with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
