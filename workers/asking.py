"""Asking the desk for a model's answer, from a thread that waits for it."""

import json
import socket
from pathlib import Path
from typing import Any

from db import permissions
from db.desk_socket import MOST_QUESTION_BYTES, short_address
from db.errors import Unavailable
from db.session import Database
from engine.graders import Ask, GraderError, Reply, SamplingParams, question, reply_of

_SILENCE_S = 30.0
"""The time to wait for the desk beyond the time that it allows for an answer."""
_AWAY = frozenset({"storage_away", "low_space"})
"""The codes of failures that any question would meet until the operator acts: the question waits."""
_TRIES = {"engine_died": 3, "out_of_memory": 3, "answer_too_slow": 2}
"""The tries of a question after failures that may be chance, or its own doing, by code. Then they count as its own."""


class DeskAway(Unavailable):
    """The desk cannot answer now."""


def asker(database: Database, desk: Path, project_id: str, answer_s: float) -> Ask:
    """Return a function that asks the project's models. It raises DeskAway while the desk cannot answer."""

    def ask(model: str, messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        with database.read() as s:
            found = permissions.usable(s, project_id, model)
        if found is None:
            message = f"there is no model, adapter or checkpoint {model!r} in this project"
            raise GraderError(message, "model_grader_server_error")
        fields = question(messages, sampling) | {"project_id": project_id, "base_id": found.id}
        line = json.dumps(fields).encode() + b"\n"
        if len(line) > MOST_QUESTION_BYTES:
            message = f"the messages take {len(line):,} bytes, and {MOST_QUESTION_BYTES:,} are taken"
            raise GraderError(message, "model_grader_server_error")
        return reply_of(_answered(desk, line, answer_s + _SILENCE_S))

    return ask


def _answered(desk: Path, line: bytes, silence_s: float) -> list[dict[str, Any]]:
    tried = 0
    while True:
        parts, failed = _asked_once(desk, line, silence_s)
        if failed is None:
            return parts
        tried += 1
        message = f"{failed['message'].rstrip('. ')}. {failed['mend']}"
        if failed["code"] in _AWAY:
            raise DeskAway(message)
        if tried >= _TRIES.get(failed["code"], 1):
            raise GraderError(message, "model_grader_server_error")


def _asked_once(desk: Path, line: bytes, silence_s: float) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the parts of the desk's answer, and its failure, if it failed."""
    parts: list[dict[str, Any]] = []
    try:
        with short_address(desk) as address, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(silence_s)
            connection.connect(address)
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                for answer in answers:
                    message = json.loads(answer)
                    if "part" not in message:
                        return parts, message.get("failed")
                    parts.append(message["part"])
    except OSError as error:
        raise DeskAway(f"the desk does not answer at {desk}: {error}") from error
    raise DeskAway(f"the desk at {desk} ended in the middle of its answer")
