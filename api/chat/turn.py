"""A turn: which weights are asked, and what the engine says."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from anyio import to_thread

from api.auth import Caller
from api.chat.answers import Usage, Weights
from api.chat.requests import ChatRequest, CompletionRequest
from api.deps import Service
from api.errors import ApiError
from api.models.schemas import reference
from db import artifacts, lineage, permissions
from db.ids import new_id
from db.models import Artifact
from engine.jobs import did_you_mean

_FINGERPRINT = 16
"""Digits of the digest that name the weights where one word has to do."""


class Turn(NamedTuple):
    """A request on its way: what every answer to it says of itself, and the parts that the engine gives."""

    facts: dict[str, Any]
    parts: AsyncIterator[dict[str, Any]]


async def ask(service: Service, caller: Caller, asked: ChatRequest | CompletionRequest) -> Turn:
    """Have a model answer; the engine begins when the first part is asked for.

    Raises:
        ApiError: 404, there is no such model.
    """
    weights = await to_thread.run_sync(_weights, service, caller, asked.model)
    seed = secrets.randbits(63) if asked.seed is None else asked.seed % 2**63
    question = asked.question() | {"seed": seed, "project_id": caller.project_id, "base_id": weights.id}
    facts = {
        "id": new_id("chatcmpl" if isinstance(asked, ChatRequest) else "cmpl"),
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": f"fp_{weights.digest[:_FINGERPRINT]}",
        "weights": weights,
    }
    return Turn(facts, service.desk.ask(question))


def usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


def _weights(service: Service, caller: Caller, name: str) -> Weights:
    with service.database.read() as session:
        found = permissions.usable(session, caller.project_id, name)
        if found is None:
            near = did_you_mean(name, artifacts.names(session, caller.project_id))
            hint = f"; did you mean {near!r}?" if near else ""
            message = f"there is no model, adapter or checkpoint {name[:100]!r} in this project{hint}"
            raise ApiError(404, "model_not_found", message, param="model")
        below = lineage.ancestors(session, found) if found.layout == "adapter" else []
    base = next((artifact for artifact in below if artifact.layout == "model"), None)
    return _told(found, None if base is None else _told(base, None))


def _told(artifact: Artifact, base: Weights | None) -> Weights:
    return Weights(id=artifact.id, reference=reference(artifact), digest=artifact.digest, base=base)
