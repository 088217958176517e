"""The desk: answers the questions that cannot wait in the queue. `python -m workers.desk`.

The API sends a line of JSON on a Unix socket and gets lines back (engine.resident). The model and the data of a
question are laid out as a run directory, so that the engine answers it with the code that would carry out the job.
"""

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any

from db.desk_socket import MOST_QUESTION_BYTES, short_address
from db.errors import Unavailable, is_full
from db.models import Job
from db.session import Database
from engine.errors import EngineError, FailureClass
from workers import stage
from workers.resident import Resident, ResidentDied
from workers.settings import WorkerSettings

_LOG = logging.getLogger(__name__)
_MOST_FOLDERS = 64
_TICK_S = 1.0
_WRITE_LESS = "Set a smaller max_tokens, or ask when fewer others do; with stream, what is written until then arrives."
_MENDS = {"chat": _WRITE_LESS, "complete": _WRITE_LESS}
"""What to do about an answer that takes too long, by the kind of question, unless it is to ask for less."""


class Desk:
    """Lays out run directories for questions, and passes on the answers of its engines."""

    def __init__(self, database: Database, settings: WorkerSettings) -> None:
        self._database = database
        self._settings = settings
        self._blobs = settings.open_blobs(low_space_bytes=0)
        self._folder = settings.home / "desk"
        self._in_use: Counter[str] = Counter()
        """The questions under way by the names of their run directories, which are not removed meanwhile."""
        self._one_removes = Lock()
        reader, talker = Resident(self._folder / "reader.log"), Resident(self._folder / "talker.log")
        self.engines = {"preview": reader, "forecast": reader, "chat": talker, "complete": talker}
        """The engine for each kind of question: reading rows needs no weights, and must not wait for a long answer."""

    async def serve(self, ended: asyncio.Event) -> None:
        """Answer questions until `ended`."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        path = self._settings.desk_socket
        try:
            with short_address(path) as address:
                server = await asyncio.start_unix_server(self._answer, address, limit=MOST_QUESTION_BYTES)
            path.chmod(0o600)
            async with server:
                while not ended.is_set():
                    for engine in self.engines.values():
                        await engine.end_if_idle(self._settings.desk_idle_s)
                    try:
                        await asyncio.wait_for(ended.wait(), _TICK_S)
                    except TimeoutError:
                        continue
        finally:
            path.unlink(missing_ok=True)
            for engine in self.engines.values():
                await engine.end()

    async def _answer(self, questions: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """Answer the one question of a connection; the answer ends when the client closes the connection."""
        try:
            line = await questions.readline()
            if line:
                await self._pass_on_unless_gone(json.loads(line), questions, answers)
        except ConnectionError:
            _LOG.info("the client has closed the connection; the answer ends")
        finally:
            answers.close()

    async def _pass_on_unless_gone(
        self, question: dict[str, Any], questions: asyncio.StreamReader, answers: asyncio.StreamWriter
    ) -> None:
        answering = asyncio.ensure_future(self._pass_on(question, answers))
        leaving = asyncio.ensure_future(questions.read())
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionAbortedError("the client has closed the connection")
            answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _pass_on(self, question: dict[str, Any], answers: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._settings.desk_answer_s):
                planned = await asyncio.to_thread(self._planned, question)
                run_dir = self._run_dir(planned)
                with self._using(run_dir):
                    await asyncio.to_thread(self._provide, planned, run_dir)
                    asked = question | {"run_dir": str(run_dir), "digests": stage.digests(planned.links)}
                    await self._ask(asked, answers)
        except Exception as error:  # the edge: the client gets the failure, and the next question is answered
            if isinstance(error, ConnectionError) and not isinstance(error, Unavailable):
                raise  # the client is gone
            answers.write(self._failure(question, error))

    def _failure(self, question: dict[str, Any], error: Exception) -> bytes:
        """Return the line that says why there is no answer."""
        match error:
            case EngineError():
                return _failed(error.failure, error.code, error.message, error.mend)
            case TimeoutError():
                message = f"the answer was not complete after {self._settings.desk_answer_s:g} seconds"
                mend = _MENDS.get(question["ask"], "Ask for less, or again later.")
                return _failed(FailureClass.WORKER_LOST, "answer_too_slow", message, mend)
            case ResidentDied():
                return _failed(FailureClass.WORKER_LOST, "engine_died", str(error), "Ask again.")
            case Unavailable():
                return _failed(FailureClass.WORKER_LOST, "storage_away", str(error), "Ask again in a while.")
            case OSError() if is_full(error):
                message = f"there is no disk space for the model and the data of the question: {error}"
                return _failed(
                    FailureClass.OUT_OF_MEMORY, "low_space", message, "Free some space on the workers' disk."
                )
            case _:
                _LOG.error("a question about %s", question.get("ask"), exc_info=error)
                return _failed(FailureClass.BUG, "desk_error", type(error).__name__, "The desk's log has the details.")

    async def _ask(self, question: dict[str, Any], answers: asyncio.StreamWriter) -> None:
        lines = self.engines[question["ask"]].ask(question)
        try:
            async for line in lines:
                answers.write(line)
                with suppress(
                    ConnectionError
                ):  # noticed where the connection is read; a second stop would end the engine
                    await answers.drain()
        finally:
            await lines.aclose()  # type: ignore[attr-defined] - it is a generator

    def _planned(self, question: dict[str, Any]) -> stage.StagingPlan:
        """Return the plan of the question's run directory, and remove from the question what makes up its job."""
        job = Job(
            id=question["ask"],
            project_id=question.pop("project_id"),
            kind=question["ask"],
            spec=question.pop("spec", {}),
            base_artifact_id=question.pop("base_id"),
        )
        with self._database.read() as s:
            return stage.plan(s, job, 0)

    def _run_dir(self, planned: stage.StagingPlan) -> Path:
        contents = json.dumps([planned.job["spec"], planned.links], sort_keys=True)
        return self._folder / hashlib.sha256(contents.encode()).hexdigest()

    @contextmanager
    def _using(self, run_dir: Path) -> Iterator[None]:
        """Keep the run directory from being removed."""
        self._in_use[run_dir.name] += 1
        try:
            yield
        finally:
            self._in_use -= Counter((run_dir.name,))

    def _provide(self, planned: stage.StagingPlan, run_dir: Path) -> None:
        """Create the run directory, or mark it as used now if it is there."""
        try:
            with self._one_removes:
                os.utime(run_dir)
        except FileNotFoundError:
            self._lay_out(planned, run_dir)

    def _lay_out(self, planned: stage.StagingPlan, run_dir: Path) -> None:
        """Create the run directory as a whole or not at all; of many, remove the least recently used that is not in use."""
        fresh = run_dir.with_name(f"{run_dir.name}.{id(planned)}")
        try:
            stage.lay_out(planned, self._blobs, fresh)
            stage.share_cache(fresh, self._settings.cache_dir)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        try:
            fresh.rename(run_dir)
        except OSError:  # another question created the same at the same time
            shutil.rmtree(fresh)
        with self._one_removes:
            for path in by_use(self._folder)[:-_MOST_FOLDERS]:
                if path.name.partition(".")[0] not in self._in_use:
                    shutil.rmtree(path, ignore_errors=True)


def by_use(folder: Path) -> list[Path]:
    """Return the folders in it, the least recently used first. Some may be renamed meanwhile."""
    used: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                used.append((status.st_mtime, path))
    return [path for _, path in sorted(used)]


def _failed(failure: FailureClass, code: str, message: str, mend: str) -> bytes:
    fields = {"class": failure, "code": code, "message": message, "mend": mend}
    return json.dumps({"failed": fields}).encode() + b"\n"


def hold_place(settings: WorkerSettings) -> IO[bytes]:
    """Lock the socket's path until the file is closed.

    Raises:
        SystemExit: another desk holds it.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = settings.desk_socket.with_suffix(".lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another desk answers at {settings.desk_socket}") from None
    return lock


async def _run(database: Database, settings: WorkerSettings) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await Desk(database, settings).serve(ended)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = WorkerSettings()
    database = Database(settings.database_url)
    with hold_place(settings):
        asyncio.run(_run(database, settings))
    database.close()


if __name__ == "__main__":
    os.umask(0o077)
    main()
