"""The resident engine: a process that answers one question after the other, and keeps what it has loaded."""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from engine.errors import FailureClass
from workers.process import ENGINE, ROOT, environment

_LOG = logging.getLogger(__name__)
_LONGEST_ANSWER_BYTES = 256 << 20
_LONGEST_SILENCE_S = 20.0
"""From asking an answer to end to ending the process."""


class ResidentDied(Exception):
    """The process ended in the middle of an answer, or said what was not asked."""


class Resident:
    """At most one process, started by the first question and again by the first one after its death.

    To be used from the event loop of the main thread: the process ends with the thread that started it.
    """

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self._numbers = count(1)
        self._used_at = time.monotonic()

    @property
    def pid(self) -> int | None:
        """Of the process that runs, if one does."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def ask(self, question: dict[str, Any]) -> AsyncIterator[bytes]:
        """The lines of the answer, as they come; who stops reading stops the answer.

        What is left of an answer would be read as the next one's: a process that has not ended its answer is ended.

        Raises:
            ResidentDied: the process was killed, or crashed. One that died before it said a word is replaced first.
        """
        async with self._one_at_a_time:
            number = next(self._numbers)
            try:
                line = await self._first_line(number, question)
                while _is_part(line):
                    yield line
                    line = await self._line(number)
                await self._conclude(line)
            except (GeneratorExit, asyncio.CancelledError):
                await self._silence(number)
                raise
            except BaseException:
                await self.end()
                raise
            finally:
                self._used_at = time.monotonic()
            yield line

    async def end_if_idle(self, idle_s: float) -> None:
        """End a process that nobody asked anything for so long: it holds a model in memory."""
        if not self._one_at_a_time.locked() and time.monotonic() - self._used_at >= idle_s:
            await self.end()

    async def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._process = None

    async def _first_line(self, number: int, question: dict[str, Any]) -> bytes:
        told = json.dumps({**question, "id": number}).encode() + b"\n"
        await self._write(told)
        line = await self._line(number)
        if not line:
            await self.end()  # its death may not be known here yet
            await self._write(told)
            line = await self._line(number)
        return line

    async def _line(self, number: int) -> bytes:
        """The next line of an answer; nothing when the process ended before it was whole.

        Raises:
            ResidentDied: the line answers another question.
            ValueError: it is longer than any answer should be.
        """
        assert self._process is not None, "it was asked"
        assert self._process.stdout is not None, "it was opened with a pipe"
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            return b""
        if not line.startswith(b'{"id": %d, ' % number):
            raise ResidentDied("the engine answered another question")
        return line

    async def _write(self, told: bytes) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._started()
        assert process.stdin is not None, "it was opened with a pipe"
        with suppress(ConnectionError):  # its end is seen where its answer is read
            process.stdin.write(told)
            await process.stdin.drain()

    async def _started(self) -> asyncio.subprocess.Process:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *ENGINE,
                "--serve",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=environment(),
                limit=_LONGEST_ANSWER_BYTES,
                start_new_session=True,
            )
        _LOG.info("engine %d answers questions", process.pid)
        return process

    async def _conclude(self, line: bytes) -> None:
        """See to the process after the last line of an answer.

        Raises:
            ResidentDied: there was none.
        """
        assert self._process is not None, "it was asked"
        if not line:
            raise ResidentDied(f"the engine ended with exit code {await self._process.wait()}")
        if json.loads(line).get("failed", {}).get("class") == FailureClass.BUG:
            await self.end()  # what it has loaded may be what is wrong

    async def _silence(self, number: int) -> None:
        """Have the answer end, and read what is left of it; the process ends when that does not succeed in time."""
        if self.pid is None:  # nothing was asked yet
            return
        silent = False
        try:
            async with asyncio.timeout(_LONGEST_SILENCE_S):
                await self._write(b'{"ask": "stop"}\n')
                while _is_part(line := await self._line(number)):
                    pass
                silent = bool(line)
        except (TimeoutError, ResidentDied, ValueError) as error:
            _LOG.warning("the engine does not end its answer: %r", error)
        finally:
            if not silent:
                await self.end()


def _is_part(line: bytes) -> bool:
    return b', "part": ' in line[:32]
