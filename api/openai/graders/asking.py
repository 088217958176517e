"""Models that grade, asked at the desk where chats are answered."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from anyio import from_thread

from api.auth import Caller
from api.deps import Service
from api.errors import ApiError
from db import permissions
from engine.graders import Ask, GraderError, Reply, SamplingParams, question, reply_of


def asker(service: Service, caller: Caller) -> Ask:
    """Asks the caller's models; for use in a thread that a route has started."""

    def ask(model: str, messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        with service.database.read() as session:
            found = permissions.usable(session, caller.project_id, model)
        if found is None:
            message = f"there is no model, adapter or checkpoint {model[:100]!r} in this project"
            raise ApiError(400, "model_not_found", message, param="grader.model")
        told = question(messages, sampling) | {"project_id": caller.project_id, "base_id": found.id}
        try:
            return from_thread.run(_answered, service, told)
        except ApiError as error:
            if error.status_code == 503:
                raise
            raise GraderError(error.body.message, "model_grader_server_error") from error

    return ask


def usage_of(replies: Iterable[tuple[str, Reply]]) -> dict[str, dict[str, int]]:
    """Tokens by model, as OpenAI's clients read them."""
    counts: dict[str, Counter[str]] = {}
    for model, reply in replies:
        used = counts.setdefault(model, Counter())
        used.update(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        used.update(total_tokens=reply.prompt_tokens + reply.completion_tokens)
    return {model: dict(used) for model, used in counts.items()}


async def _answered(service: Service, told: dict[str, Any]) -> Reply:
    return reply_of([part async for part in service.desk.ask(told)])
