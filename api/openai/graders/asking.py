"""Models that grade, asked through the desk that also answers chats."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

from anyio import from_thread
from starlette.requests import ClientDisconnect

from api.auth import Caller
from api.deps import Service
from api.errors import ApiError
from db import permissions
from engine.graders import GraderError, Reply, SamplingParams, question, reply_of


class Asking:
    """Asks the questions of one request; once the request is over, its thread can ask no more."""

    def __init__(self, service: Service, caller: Caller) -> None:
        self._service = service
        self._project_id = caller.project_id
        self._over = False
        self._asked: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for task in self._asked:
            task.cancel()

    def ask(self, model: str, messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        """Ask one of the caller's models (engine.graders.Ask). To be used in a thread that a route has started."""
        with self._service.database.read() as session:
            found = permissions.usable(session, self._project_id, model)
        if found is None:
            message = f"there is no model, adapter or checkpoint {model[:100]!r} in this project"
            raise ApiError(400, "model_not_found", message, param="grader.model")
        asked = question(messages, sampling) | {"project_id": self._project_id, "base_id": found.id}
        try:
            return from_thread.run(self._answered, asked)
        except ApiError as error:
            if error.status_code == 503:
                raise
            raise GraderError(error.body.message, "model_grader_server_error") from error

    async def _answered(self, asked: dict[str, Any]) -> Reply:
        if self._over:
            raise ClientDisconnect
        task = asyncio.current_task()
        assert task is not None, "from_thread.run makes one"
        self._asked.add(task)
        try:
            return reply_of([part async for part in self._service.desk.ask(asked)])
        finally:
            self._asked.discard(task)


def usage_of(replies: Iterable[tuple[str, Reply]]) -> dict[str, dict[str, int]]:
    """Return the tokens by model, as OpenAI's clients read them."""
    counts: dict[str, Counter[str]] = {}
    for model, reply in replies:
        used = counts.setdefault(model, Counter())
        used.update(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        used.update(total_tokens=reply.prompt_tokens + reply.completion_tokens)
    return {model: dict(used) for model, used in counts.items()}
