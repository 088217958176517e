"""Completions under way: the weights that answer, and the parts that the engine writes."""

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
from engine.rows import did_you_mean

_FINGERPRINT = 16
"""The number of digits of the digest in a system fingerprint."""


class Turn(NamedTuple):
    """A completion under way: the fields that all objects of its answer share, and the parts that the engine writes."""

    facts: dict[str, Any]
    parts: AsyncIterator[dict[str, Any]]


async def ask(service: Service, caller: Caller, asked: ChatRequest | CompletionRequest) -> Turn:
    """Prepare a completion; the engine begins when the first part is read.

    Raises:
        ApiError: 404 when there is no such model.
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
    return _as_weights(found, None if base is None else _as_weights(base, None))


def _as_weights(artifact: Artifact, base: Weights | None) -> Weights:
    return Weights(id=artifact.id, reference=reference(artifact), digest=artifact.digest, base=base)
