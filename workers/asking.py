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
        return reply_of(_answered(desk, told, answer_s + _SILENCE_S))

    return ask


def _answered(desk: Path, told: dict[str, Any], silence_s: float) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    line = json.dumps(told).encode() + b"\n"
    if len(line) > MOST_QUESTION_BYTES:
        message = f"the messages take {len(line):,} bytes, and {MOST_QUESTION_BYTES:,} are taken"
        raise GraderError(message, "model_grader_server_error")
    try:
        # The kernel takes no path over 107 bytes; by way of its folder any is short.
        place = os.open(desk.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(silence_s)
                connection.connect(f"/proc/self/fd/{place}/{desk.name}")
                connection.sendall(line)
                with connection.makefile("rb") as answers:
                    for line in answers:
                        said = json.loads(line)
                        if "failed" in said:
                            raise _refused(said["failed"])
                        if "part" not in said:
                            return parts
                        parts.append(said["part"])
        finally:
            os.close(place)
    except OSError as error:
        raise DeskAway(f"nobody answers at {desk}: {error}") from error
    raise DeskAway(f"the desk at {desk} ended in the middle of its answer")


def _refused(failed: dict[str, Any]) -> GraderError:
    return GraderError(f"{failed['message'].rstrip('. ')}. {failed['mend']}", "model_grader_server_error")
