"""Text completions: the engine's parts as one object, or as the chunks of a stream."""

from codecs import getincrementaldecoder
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from api.chat.answers import Completion, TextChoice, TextLogprobs
from api.chat.turn import Turn, usage


class _Offsets:
    """Where the tokens of a text begin, in characters: counted from their bytes, as the text may come later."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._next = 0

    def add(self, token: dict[str, Any]) -> int:
        offset = self._next
        self._next += len(self._decoder.decode(bytes(token["bytes"] or ())))
        return offset


class _Text:
    """A choice that grows with each part."""

    def __init__(self, offsets: _Offsets) -> None:
        self._offsets = offsets
        self.text = ""
        self.logprobs = TextLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        self.end: Any = None

    def add(self, part: dict[str, Any]) -> None:
        if token := part.get("logprobs"):
            self.logprobs.tokens.append(_name(token))
            self.logprobs.token_logprobs.append(token["logprob"])
            self.logprobs.top_logprobs.append({_name(one): one["logprob"] for one in (*token["top"], token)})
            self.logprobs.text_offset.append(self._offsets.add(token))
        self.text += part["text"]
        self.end = part["finish_reason"]

    def choice(self, index: int) -> TextChoice:
        logprobs = self.logprobs if self.logprobs.tokens else None
        return TextChoice(index=index, text=self.text, logprobs=logprobs, finish_reason=self.end)


def _name(token: dict[str, Any]) -> str:
    """Return the text of a token, or for a part of a character its bytes in OpenAI's notation."""
    try:
        bytes(token["bytes"] or ()).decode()
    except UnicodeDecodeError:
        return f"bytes:{token['token']}"
    return token["token"]


async def whole(turn: Turn, texts: int) -> Completion:
    """Return the texts once all are written."""
    grown = [_Text(_Offsets()) for _ in range(texts)]
    counts: dict[str, int] = {}
    async for part in turn.parts:
        if "index" in part:
            grown[part["index"]].add(part)
        else:
            counts |= part
    choices = [text.choice(index) for index, text in enumerate(grown)]
    return Completion(**turn.facts, choices=choices, usage=usage(**counts))


async def pieces(turn: Turn, *, include_usage: bool) -> AsyncIterator[Completion]:
    """Yield chunks of the texts as they are written."""
    counts: dict[str, int] = {}
    offsets: defaultdict[int, _Offsets] = defaultdict(_Offsets)
    async for part in turn.parts:
        if "index" not in part:
            counts |= part
            continue
        index = part["index"]
        piece = _Text(offsets[index])
        piece.add(part)
        if part["text"] or part["finish_reason"] or piece.logprobs.tokens:
            yield Completion(**turn.facts, choices=[piece.choice(index)], usage=None)
    if include_usage:
        yield Completion(**turn.facts, choices=[], usage=usage(**counts))
