"""The text of an answer as it is streamed: what may turn out to be a stop string is held back."""

from collections.abc import Sequence

from engine.data.pieces import Detokenizer


class Spoken:
    """Turns tokens into text, without any part of a stop string or what follows it."""

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stop = stop
        self._held = ""
        self._stopped = False

    def add(self, token: int) -> str:
        """Return the text that the token adds, and what was held back before it and is no stop string."""
        return self._released(self._detokenizer.add(token))

    def rest(self) -> str:
        """Return what was held back, at the end of an answer."""
        released = self._released(self._detokenizer.rest())
        rest, self._held = self._held, ""
        return released if self._stopped else released + rest

    def _released(self, more: str) -> str:
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
    """Return how many of the last characters may be the beginning of a stop string."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
