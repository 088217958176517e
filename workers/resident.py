"""The resident engine: a process that answers one question after the other, and keeps what it has loaded."""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.process import ENGINE, ROOT, environment

_LOG = logging.getLogger(__name__)
_LONGEST_ANSWER_BYTES = 256 << 20


class ResidentDied(Exception):
    """The process ended in the middle of an answer."""


class Resident:
    """At most one process, started by the first question and again by the first one after its death.

    To be used from the event loop of the main thread: the process ends with the thread that started it.
    """

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self._used_at = time.monotonic()

    @property
    def pid(self) -> int | None:
        """Of the process that runs, if one does."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def ask(self, question: dict[str, Any]) -> AsyncIterator[bytes]:
        """The lines of the answer, as they come; who stops reading stops the answer.

        Raises:
            ResidentDied: the process was killed, or crashed. One that died before it said a word is replaced first.
        """
        async with self._one_at_a_time:
            process = await self._asked(question)
            first = await _line_of(process)
            if not first:
                await process.wait()  # its death may not be known here yet
                process = await self._asked(question)
                first = await _line_of(process)
            line = first
            try:
                while line and b'{"part"' in line[:8]:
                    yield line
                    line = await _line_of(process)
            except GeneratorExit:
                await self._silence(process)
                raise
            finally:
                self._used_at = time.monotonic()
            if not line:
                raise ResidentDied(f"the engine ended with exit code {await process.wait()}")
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

    async def _asked(self, question: dict[str, Any]) -> asyncio.subprocess.Process:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._started()
        assert process.stdin is not None, "it was opened with a pipe"
        with suppress(ConnectionError):  # its end is seen where its answer is read
            process.stdin.write(json.dumps(question).encode() + b"\n")
            await process.stdin.drain()
        return process

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

    async def _silence(self, process: asyncio.subprocess.Process) -> None:
        """Have the answer end, and read what is left of it."""
        assert process.stdin is not None, "it was opened with a pipe"
        with suppress(ConnectionError):
            process.stdin.write(b'{"ask": "stop"}\n')
            await process.stdin.drain()
            while (line := await _line_of(process)) and b'{"part"' in line[:8]:
                pass


async def _line_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None, "it was opened with a pipe"
    return await process.stdout.readline()
