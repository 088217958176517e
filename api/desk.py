"""The desk (workers.desk): where the engine is asked what cannot wait in the queue."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from api.errors import ApiError

MOST_QUESTION_BYTES = 8 << 20
"""What the desk reads."""
_LONGEST_LINE_BYTES = 256 << 20
_CODES = {"context_length_exceeded": 400, "invalid_prompt": 400}
"""Of some by their code."""
_STATUS = {"data_error": 422, "spec_error": 422, "out_of_memory": 507, "worker_lost": 503}
"""Of what an engine or the desk says when it cannot answer, by its class; anything else is a mistake of ours."""

_RETRY_AFTER_S = {503: "5", 507: "30"}
_FINAL = {"question_too_large_for_memory"}
"""Codes of what another try changes nothing about, whatever its status: clients are told not to."""


class Desk:
    """A client of the Unix socket; each question has a connection of its own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def ask(self, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The parts of the answer as they come; who stops reading stops the answer.

        Raises:
            ApiError: the question is too large or cannot be answered, or nobody is there to do it.
        """
        line = json.dumps(question).encode() + b"\n"
        if len(line) > MOST_QUESTION_BYTES:
            message = (
                f"what is asked takes {len(line):,} bytes, and {MOST_QUESTION_BYTES:,} are taken; ask for less at once"
            )
            raise ApiError(413, "question_too_large", message)
        answers, questions = await self._connect()
        try:
            questions.write(line)
            await questions.drain()
            while (line := await answers.readline()).endswith(b"\n"):
                told = json.loads(line)
                if "part" not in told:
                    if "failed" in told:
                        raise _refused(told["failed"])
                    return
                yield told["part"]
            raise _away("the desk ended in the middle of its answer")
        except ConnectionError as error:
            raise _away(f"the desk went away: {error}") from error
        finally:
            questions.close()

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question that has one part.

        Raises:
            ApiError: as `ask`.
        """
        parts = [part async for part in self.ask(question)]
        return parts[0]

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            # The kernel takes no path over 107 bytes; by way of its folder any is short.
            place = os.open(self.socket.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                address = f"/proc/self/fd/{place}/{self.socket.name}"
                return await asyncio.open_unix_connection(address, limit=_LONGEST_LINE_BYTES)
            finally:
                os.close(place)
        except OSError as error:
            raise _away(
                "nobody answers previews, plans and chats now: `python -m workers.desk` does not run"
            ) from error


def _refused(failed: dict[str, Any]) -> ApiError:
    told = failed["message"].rstrip(". ")
    message = f"{told} {failed['mend']}" if told.endswith("?") else f"{told}. {failed['mend']}"
    status = _CODES.get(failed["code"]) or _STATUS.get(failed["class"], 500)
    return ApiError(status, failed["code"], message, headers=_about_retries(failed["code"], status))


def _about_retries(code: str, status: int) -> dict[str, str]:
    if code in _FINAL:
        return {"x-should-retry": "false"}
    return {"Retry-After": _RETRY_AFTER_S[status]} if status in _RETRY_AFTER_S else {}


def _away(message: str) -> ApiError:
    return ApiError(503, "desk_away", message, headers={"Retry-After": "5"})
