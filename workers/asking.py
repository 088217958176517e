"""Asking the desk for an answer of a model, from a thread that has nothing else to do."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from db import permissions
from db.errors import Unavailable
from db.session import Database
from engine.graders import Ask, GraderError, Reply, SamplingParams, question, reply_of
from workers.desk import MOST_QUESTION_BYTES

_SILENCE_S = 30.0
"""Beyond the time that the desk gives an answer."""
_AWAY = frozenset({"storage_away", "low_space"})
"""What a question meets that any other would meet too, until somebody mends it: it waits."""
_TRIES = {"engine_died": 3, "out_of_memory": 3, "answer_too_slow": 2}
"""What a question may have met by chance, or be the cause of: after so many times it is taken for the cause."""


class DeskAway(Unavailable):
    """Nobody answers now."""


def asker(database: Database, desk: Path, project_id: str, answer_s: float) -> Ask:
    """Asks the project's models; raises DeskAway while the desk is."""

    def ask(model: str, messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        with database.read() as s:
            found = permissions.usable(s, project_id, model)
        if found is None:
            message = f"there is no model, adapter or checkpoint {model!r} in this project"
            raise GraderError(message, "model_grader_server_error")
        told = question(messages, sampling) | {"project_id": project_id, "base_id": found.id}
        line = json.dumps(told).encode() + b"\n"
        if len(line) > MOST_QUESTION_BYTES:
            message = f"the messages take {len(line):,} bytes, and {MOST_QUESTION_BYTES:,} are taken"
            raise GraderError(message, "model_grader_server_error")
        return reply_of(_answered(desk, line, answer_s + _SILENCE_S))

    return ask


def _answered(desk: Path, line: bytes, silence_s: float) -> list[dict[str, Any]]:
    tried = 0
    while True:
        parts, failed = _heard(desk, line, silence_s)
        if failed is None:
            return parts
        tried += 1
        message = f"{failed['message'].rstrip('. ')}. {failed['mend']}"
        if failed["code"] in _AWAY:
            raise DeskAway(message)
        if tried >= _TRIES.get(failed["code"], 1):
            raise GraderError(message, "model_grader_server_error")


def _heard(desk: Path, line: bytes, silence_s: float) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The parts of the desk's answer, and why it is none where it failed."""
    parts: list[dict[str, Any]] = []
    try:
        # The kernel takes no path over 107 bytes; by way of its folder any is short.
        place = os.open(desk.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(silence_s)
                connection.connect(f"/proc/self/fd/{place}/{desk.name}")
                connection.sendall(line)
                with connection.makefile("rb") as answers:
                    for answer in answers:
                        said = json.loads(answer)
                        if "part" not in said:
                            return parts, said.get("failed")
                        parts.append(said["part"])
        finally:
            os.close(place)
    except OSError as error:
        raise DeskAway(f"nobody answers at {desk}: {error}") from error
    raise DeskAway(f"the desk at {desk} ended in the middle of its answer")
