"""The resident engine: a process that answers questions, several at a time, and keeps its models loaded."""

import asyncio
import json
import logging
import os
import re
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
"""The time that an answer has to stop before its process is ended."""
_LONGEST_BUSY_S = 600.0
"""A process that writes nothing for this long is not merely loading a base model or reading a prompt."""
_NUMBER = re.compile(rb'\{"id": (\d+), ')


class ResidentDied(Exception):
    """The process ended in the middle of an answer, or answered a question that was not asked."""


class Resident:
    """A process that is started by the first question, and again by the first question after its end.

    To be used from the event loop of the main thread: the process ends with the thread that started it.
    """

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._engine: _Engine | None = None
        self._retired: list[_Engine] = []
        self._one_starts = asyncio.Lock()
        self._one_asks_again = asyncio.Lock()
        self._numbers = count(1)
        self._used_at = time.monotonic()

    @property
    def pid(self) -> int | None:
        """The process id, if a process runs."""
        return self._engine.process.pid if self._engine is not None and self._engine.lives else None

    @property
    def is_asked(self) -> bool:
        """Whether an answer is under way."""
        return any(engine.is_asked for engine in (self._engine, *self._retired) if engine is not None)

    async def ask(self, question: dict[str, Any]) -> AsyncIterator[bytes]:
        """Yield the lines of the answer as they come; closing the generator stops the answer.

        Raises:
            ResidentDied: the process was killed, or crashed. One that ended before its first line is replaced once.
        """
        try:
            engine, number, line = await self._first_line(question)
            if not line:
                async with self._one_asks_again:  # if this question kills the process, it ends no other answer
                    engine, number, line = await self._first_line(question)
            try:
                while _is_part(line):
                    yield line
                    line = await engine.line(number)
            except (GeneratorExit, asyncio.CancelledError):
                await engine.silence(number)
                raise
            await self._conclude(engine, number, line)
        finally:
            self._used_at = time.monotonic()
        yield line

    async def end_if_idle(self, idle_s: float) -> None:
        """End a process that has had no question for that long, since it holds a model in memory."""
        if self._engine is not None and not self.is_asked and time.monotonic() - self._used_at >= idle_s:
            await self.end()

    async def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        engines, self._engine, self._retired = (self._engine, *self._retired), None, []
        for engine in engines:
            if engine is not None:
                await engine.end()

    async def _first_line(self, question: dict[str, Any]) -> tuple["_Engine", int, bytes]:
        """Return the process, the question's number, and the first line, which is empty if the process ended first."""
        number = next(self._numbers)
        async with self._one_starts:
            if self._engine is None or not self._engine.lives:
                self._engine = await _Engine.started(self._log_path)
            engine = self._engine
        try:
            await engine.ask(number, question)
            return engine, number, await engine.line(number)
        except asyncio.CancelledError:
            await engine.silence(number)
            raise

    async def _conclude(self, engine: "_Engine", number: int, line: bytes) -> None:
        """Handle the last line of an answer.

        Raises:
            ResidentDied: the process ended before it.
        """
        if not line:
            raise engine.death or ResidentDied(f"the engine ended with exit code {await engine.process.wait()}")
        if json.loads(line).get("failed", {}).get("class") == FailureClass.BUG and self._engine is engine:
            # Its loaded state may be the cause, so it gets no more questions and ends with its last answer.
            self._engine, self._retired = None, [*(one for one in self._retired if one.lives), engine]
            engine.retired = True
        await engine.forget(number)


class _Engine:
    """A running process, and the lines of the answers that have not ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lives = True
        self.retired = False
        self.death: ResidentDied | None = None
        """Why it was ended, if it did not end by itself."""
        self._lines: dict[int, asyncio.Queue[bytes]] = {}
        self._left: dict[int, asyncio.Event] = {}
        self._silent_since = time.monotonic()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def started(cls, log_path: Path) -> "_Engine":
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("wb") as log:
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
        return cls(process)

    @property
    def is_asked(self) -> bool:
        return self.lives and bool(self._lines)

    async def ask(self, number: int, question: dict[str, Any]) -> None:
        if not self._lines and not self._left:  # an answer that is being stopped counts as one under way
            self._silent_since = time.monotonic()
        self._lines[number] = asyncio.Queue()
        await self._write({**question, "id": number})

    async def line(self, number: int) -> bytes:
        """Return the next line of an answer; an empty one when the process ended before the answer did."""
        lines = self._lines[number]
        return await lines.get() if self.lives or not lines.empty() else b""

    async def silence(self, number: int) -> None:
        """Stop an answer whose reader is gone.

        A process that does not stop it in time is ended, unless it may be busy with other questions.
        """
        if self.lives and not self._has_all(number):
            ended = self._left[number] = asyncio.Event()
            del self._lines[number]
            await self._write({"ask": "stop", "id": number})
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _LONGEST_SILENCE_S)
            if not ended.is_set() and not self._may_be_busy():
                _LOG.warning("engine %d does not end its answer, and is ended", self.process.pid)
                await self.end()
            await self._end_if_done()
        else:
            await self.forget(number)

    def _may_be_busy(self) -> bool:
        """Return whether other questions may keep the process busy."""
        return bool(self._lines) and time.monotonic() - self._silent_since < _LONGEST_BUSY_S

    def _has_all(self, number: int) -> bool:
        """Return whether the answer's last line has come, among those that were not read."""
        lines = self._lines[number]
        return any(not _is_part(lines.get_nowait()) for _ in range(lines.qsize()))

    async def forget(self, number: int) -> None:
        """Drop an answer that has ended."""
        del self._lines[number]
        await self._end_if_done()

    async def _end_if_done(self) -> None:
        if self.retired and not self._lines:
            await self.end()

    async def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        self._kill()
        await asyncio.wait([self._reader])

    def _kill(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None, "it was opened with a pipe"
        with suppress(ConnectionError):  # the end of the process is noticed where the answer is read
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            await self.process.stdin.drain()

    async def _read(self) -> None:
        """Pass lines to the readers of their answers until the process ends; a line without a reader ends it."""
        assert self.process.stdout is not None, "it was opened with a pipe"
        try:
            while (line := await self.process.stdout.readline()).endswith(b"\n"):
                self._pass_on(line)
        except ResidentDied as death:
            self.death = death
        except ValueError as error:
            self.death = ResidentDied(f"the engine's answer is too long: {error}")
        finally:
            self.lives = False
            self._kill()
            await self.process.wait()
            for lines in self._lines.values():
                lines.put_nowait(b"")
            for ended in self._left.values():
                ended.set()

    def _pass_on(self, line: bytes) -> None:
        self._silent_since = time.monotonic()
        found = _NUMBER.match(line)
        number = int(found[1]) if found else 0
        if number in self._lines:
            self._lines[number].put_nowait(line)
        elif number not in self._left:
            raise ResidentDied("the engine answered another question")
        elif not _is_part(line):
            self._left.pop(number).set()


def _is_part(line: bytes) -> bool:
    return b', "part": ' in line[:32]
