"""The client of the desk (workers.desk), where a running engine answers what cannot wait in the queue."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from api.errors import ApiError
from db.desk_socket import MOST_QUESTION_BYTES, short_address

_LONGEST_LINE_BYTES = 256 << 20
_CODES = {"context_length_exceeded": 400, "invalid_prompt": 400}
"""Statuses of some errors, by their code."""
_STATUS = {"data_error": 422, "spec_error": 422, "out_of_memory": 507, "worker_lost": 503}
"""Statuses of the other errors of an engine or the desk, by their class; any other class is a bug of this service."""

_RETRY_AFTER_S = {503: "5", 507: "30"}
_FINAL = {"answer_too_slow", "question_too_large_for_memory"}
"""Codes of errors that a retry is not likely to change, whatever their status; a header keeps clients from retrying."""


class Desk:
    """Asks questions over the desk's Unix socket, each over a connection of its own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def ask(self, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the parts of the answer as they come; a reader that stops ends the answer.

        Raises:
            ApiError: the question is too large or cannot be answered, or the desk does not run.
        """
        line = json.dumps(question).encode() + b"\n"
        if len(line) > MOST_QUESTION_BYTES:
            message = f"the question has {len(line):,} bytes, and at most {MOST_QUESTION_BYTES:,} are allowed; ask for less at once"
            raise ApiError(413, "question_too_large", message)
        answers, questions = await self._connect()
        try:
            questions.write(line)
            await questions.drain()
            while (line := await answers.readline()).endswith(b"\n"):
                message = json.loads(line)
                if "part" not in message:
                    if "failed" in message:
                        raise _refused(message["failed"])
                    return
                yield message["part"]
            raise _away("the desk stopped in the middle of its answer")
        except ConnectionError as error:
            raise _away(f"the desk went away: {error}") from error
        finally:
            questions.close()

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a question that has one part.

        Raises:
            ApiError: as for `ask`.
        """
        parts = [part async for part in self.ask(question)]
        return parts[0]

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            with short_address(self.socket) as address:
                return await asyncio.open_unix_connection(address, limit=_LONGEST_LINE_BYTES)
        except OSError as error:
            raise _away(
                "previews, plans and chats are not available now: `python -m workers.desk` does not run"
            ) from error


def _refused(failed: dict[str, Any]) -> ApiError:
    reason = failed["message"].rstrip(". ")
    message = f"{reason} {failed['mend']}" if reason.endswith("?") else f"{reason}. {failed['mend']}"
    status = _CODES.get(failed["code"]) or _STATUS.get(failed["class"], 500)
    return ApiError(status, failed["code"], message, headers=_about_retries(failed["code"], status))


def _about_retries(code: str, status: int) -> dict[str, str]:
    if code in _FINAL:
        return {"x-should-retry": "false"}
    return {"Retry-After": _RETRY_AFTER_S[status]} if status in _RETRY_AFTER_S else {}


def _away(message: str) -> ApiError:
    return ApiError(503, "desk_away", message, headers={"Retry-After": "5"})
