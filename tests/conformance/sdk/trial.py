"""A trial: methods of the real package called one by one, and what each did otherwise than it should."""

import inspect
import traceback
from collections.abc import Callable
from typing import Any

import openai


class Trial:
    """Calls methods of a sync or an async client alike, and keeps a list of differences for each method."""

    def __init__(self, client: Any, differences: dict[str, list[str]] | None = None) -> None:
        self.client = client
        self.mode = "async" if isinstance(client, openai.AsyncOpenAI) else "sync"
        self.major = int(openai.__version__.partition(".")[0])
        self.differences = {} if differences is None else differences

    def at(self, **options: Any) -> "Trial":
        """The same with another client: a stranger, or one that takes what its own types have no word for."""
        own = {"base_url": self.client.base_url, "api_key": self.client.api_key}
        return Trial(type(self.client)(**own | options), self.differences)

    async def call(self, method: str, /, *arguments: Any, **named: Any) -> Any:
        """What `client.METHOD(...)` gives; an answer that is not of the type it promises is an error here."""
        self.differences.setdefault(method, [])
        return await _awaited(self._find(method)(*arguments, **named))

    async def every(self, method: str, /, *arguments: Any, **named: Any) -> list[Any]:
        """All that `client.METHOD(...)` lists, the following pages too."""
        self.differences.setdefault(method, [])
        pages = self._find(method)(*arguments, **named)
        return [item async for item in pages] if hasattr(pages, "__aiter__") else list(pages)

    async def refused(self, method: str, kind: type[openai.APIStatusError], /, *arguments: Any, **named: Any) -> Any:
        """The error that `client.METHOD(...)` raises, which must be of that class and have all its parts."""
        try:
            await self.call(method, *arguments, **named)
        except kind as error:
            self.same(method, "error.type", isinstance(error.type, str) and bool(error.type), True)
            self.same(method, "error.code", isinstance(error.code, str) and bool(error.code), True)
            self.same(method, "error.request_id", bool(error.request_id), True)
            return error
        self.differences[method].append(f"raised no {kind.__name__}")
        return None

    def same(self, method: str, what: str, got: object, wanted: object) -> None:
        """Note it when something is not as it should be."""
        if got != wanted:
            self.differences.setdefault(method, []).append(f"{what} is {got!r:.300}, not {wanted!r:.300}")

    async def run(self, scenario: Callable[["Trial"], Any]) -> None:
        """Go through a scenario; what it raises is a difference of the method that it came to."""
        try:
            await scenario(self)
        except Exception:  # noqa: BLE001 - whatever the package raises is what we are here to see
            at = list(self.differences)[-1] if self.differences else scenario.__name__
            self.differences.setdefault(at, []).append(traceback.format_exc(limit=-4))

    def _find(self, method: str) -> Any:
        found = self.client
        for name in method.split("."):
            found = getattr(found, name)
        return found


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
