"""Supervision: an engine runs, its events are written to the database, and it is stopped when the job is to end."""

import json
import logging
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from db import artifacts, leases, records, traces
from db.artifacts import FileEntry
from db.errors import BlobsUnavailable
from db.session import Session
from engine.errors import EXIT_OK
from engine.events import (
    EVENT,
    AnyEvent,
    CheckpointSaved,
    Exported,
    Failed,
    Finished,
    Log,
    Metrics,
    Sample,
    Started,
    Stopped,
    Used,
)
from workers import stage
from workers.attempt import Attempt
from workers.claim import LeaseLostError
from workers.kills import MemoryKills
from workers.process import EngineProcess
from workers.tail import Tail

_TICK_S = 0.05
_WRITE_EVERY_S = 0.25
_WRITE_AT_LINES = 500
_SHOWN_CHARACTERS = 100
_HELD = "held"
_LOG = logging.getLogger(__name__)


class End(NamedTuple):
    """How an engine ended, and the last events that it wrote."""

    exit_code: int
    exported: list[Exported]
    """In the order in which they were made: a merged model follows its adapter."""
    finished: Finished | None
    failed: Failed | None
    used: Used | None
    killed_for_memory: bool = False
    """Whether the kernel killed a process of its group for lack of memory shortly before."""
    lighter: str | None = None
    """The settings of the spec that would take less memory, if the engine's memory plan named any."""


class Supervision:
    """Follows one engine from start to end. `begun` is called, in this thread, when the engine starts to work."""

    def __init__(self, attempt: Attempt, engine: EngineProcess, begun: Callable[[], None] = lambda: None) -> None:
        self._attempt = attempt
        self._lease = attempt.lease
        self._engine = engine
        self._begun = begun
        self._tail = Tail(attempt.run_dir / "events.jsonl")
        self._events: list[dict[str, Any]] = []
        self._metrics: list[dict[str, Any]] = []
        self._batch = 1
        self._written_at = 0.0
        self._asked: tuple[signal.Signals, float] | None = None
        self._kill_at = float("inf")
        self._exported: list[Exported] = []
        self._unpublished: list[CheckpointSaved] = []
        self._last: dict[type, Any] = {}
        self._lighter: str | None = None
        self._reported_unstored: set[int] = set()
        self._memory_kills = MemoryKills(engine.pid)
        self._killed_for_memory = False

    def run(self) -> End:
        """Follow the engine to its end.

        Raises:
            LeaseLostError: the job went to another attempt; the engine has been killed.
        """
        self._lease.stop_on_loss(self._engine.kill)
        try:
            exit_code = self._follow()
            self._write()
        finally:
            self._engine.end()
        if self._lease.lost.is_set() or self._lease.is_ending():
            raise LeaseLostError(self._lease.job.id)
        last = self._last
        return End(
            exit_code, self._exported, last.get(Finished), last.get(Failed), last.get(Used),
            self._killed_for_memory, self._lighter,
        )  # fmt: skip

    def _follow(self) -> int:
        while True:
            exit_code = self._engine.poll()  # before reading, so that the last lines are not missed
            self._read()
            self._write_when_due()
            if exit_code is not None:
                self._killed_for_memory = self._memory_kills.any_lately()
                if exit_code != EXIT_OK:
                    self._publish_the_rest()
                return exit_code
            self._memory_kills.look()
            self._obey()
            time.sleep(_TICK_S)

    def _obey(self) -> None:
        """Ask the engine to end, or to save and end, as the job or the worker requires; kill it if it is late."""
        if self._lease.cancel_requested.is_set():
            self._ask(signal.SIGINT, self._attempt.settings.kill_grace_s)
        elif self._attempt.stopping.is_set():
            self._ask(signal.SIGTERM, self._attempt.settings.stop_grace_s)
        elif self._lease.let_go_requested.is_set():  # the worker stays, so a long step or a large checkpoint has time
            self._ask(signal.SIGTERM, self._attempt.settings.save_grace_s)
        if time.monotonic() >= self._kill_at:
            _LOG.warning("job %s: the engine did not end in time; killed", self._lease.job.id)
            self._engine.kill()

    def _ask(self, number: signal.Signals, grace_s: float) -> None:
        if self._asked == (number, grace_s):
            return
        if self._asked is None or self._asked[0] is not number:
            self._engine.ask(number)
        self._asked = number, grace_s
        self._kill_at = min(self._kill_at, time.monotonic() + grace_s)

    def _read(self) -> None:
        for line in self._tail.lines():
            try:
                event = EVENT.validate_json(line)
            except ValidationError as error:
                _LOG.warning("job %s: a line of events.jsonl is not an event: %s", self._lease.job.id, error)
                continue
            self._take(event)
            if len(self._events) + len(self._metrics) >= _WRITE_AT_LINES:
                self._write()

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Metrics(step=step, split=split, values=values, time=created_at):
                self._metrics.append({"split": split, "step": step, "values": values, "created_at": created_at})
            case Log(level=level, message=message, code=code, data=data, time=created_at):
                self._add_event("log", level, message, {"code": code, **data}, created_at)
                if code == "memory_plan":
                    self._lighter = data.get("lighter") or None
            case Started():
                self._add_event("started", "info", _started(event), _facts(event), event.time)
                self._begun()
            case Sample():
                self._add_event("sample", "info", _sampled(event), _facts(event), event.time)
            case CheckpointSaved():
                self._unpublished.append(event)
                self._publish_checkpoints()
            case Exported():
                self._exported.append(event)
            case Used() | Finished() | Failed():
                self._last[type(event)] = event
            case Stopped(step=step, time=created_at):
                self._add_event("stopped", "info", f"stopped at step {step}, saved", {"step": step}, created_at)

    def _add_event(self, kind: str, level: str, message: str, data: dict[str, Any], created_at: float) -> None:
        self._events.append({"type": kind, "level": level, "message": message, "data": data, "created_at": created_at})

    def _write_when_due(self) -> None:
        if (self._events or self._metrics) and time.monotonic() >= self._written_at + _WRITE_EVERY_S:
            self._write()

    def _write(self) -> None:
        """Write everything read so far, in one fenced transaction that also renews the lease."""
        if not (self._events or self._metrics):
            return
        asked_at = time.monotonic()
        renewal = self._lease.write(self._append)
        self._written(asked_at, renewal)

    def _append(self, s: Session, *more: dict[str, Any]) -> leases.Renewal | None:
        lease = self._lease
        return records.append(
            s, lease.job.id, lease.fence,
            events=[*self._events, *more], metrics=self._metrics, lease_s=lease.lease_s, batch=self._batch,
        )  # fmt: skip

    def _written(self, asked_at: float, renewal: leases.Renewal | None) -> None:
        self._lease.renewed(asked_at, renewal)
        self._events, self._metrics = [], []
        self._batch += 1
        self._written_at = time.monotonic()

    def _publish_checkpoints(self) -> None:
        """Publish the checkpoints that are not published yet, in order, until the blob store does not take one."""
        while self._unpublished and self._publish_checkpoint(self._unpublished[0]):
            del self._unpublished[0]

    def _publish_the_rest(self) -> None:
        """Publish the last checkpoints, from which the job resumes, even if the store is away, unless the worker stops."""
        while self._unpublished and not self._lease.lost.is_set():
            self._publish_checkpoints()
            self._write()  # the loop that writes has ended, and the store may be away for long
            if self._attempt.stopping.wait(self._attempt.settings.blobs_wait_s if self._unpublished else 0):
                return

    def _publish_checkpoint(self, saved: CheckpointSaved) -> bool:
        """Store the files, then write the artifact, its event and everything read before in one fenced transaction.

        Returns False when the blob store is away.
        """
        if self._lease.cancel_requested.is_set():
            return True
        folder = stage.folder_of(self._attempt.run_dir, saved.path)
        try:
            entries = self._store(folder)
        except FileNotFoundError:
            if folder.exists():
                raise
            # The engine keeps only its newest few, and has saved newer ones while an earlier one was being stored.
            _LOG.info("job %s: the checkpoint of step %d was replaced already", self._lease.job.id, saved.step)
            return True
        except BlobsUnavailable as error:
            if saved.step not in self._reported_unstored:
                message = (
                    f"the checkpoint of step {saved.step} is not stored yet, no attempt can resume from it: {error}"
                )
                self._add_event(
                    "log", "warn", message, {"code": "checkpoint_not_stored", "step": saved.step}, time.time()
                )
            self._reported_unstored.add(saved.step)
            return False
        if self._lease.cancel_requested.is_set():
            return True
        lease = self._lease
        rules = lease.job.spec["checkpoints"]

        def publish(s: Session) -> leases.Renewal:
            artifact = artifacts.publish_checkpoint(
                s, lease.job.id, lease.fence,
                step=saved.step, layout=saved.layout, files=entries, metrics=saved.metrics,
                lineage=self._attempt.lineage | {"step": saved.step},
                keep=rules["save_total_limit"], best_by=rules["metric_for_best_model"],
                greater_is_better=rules.get("greater_is_better") or False,
            )  # fmt: skip
            if artifact is None:
                raise LeaseLostError(lease.job.id)
            facts = {"artifact_id": artifact.id, "step": saved.step, "best": saved.best, "metrics": saved.metrics}
            event = {
                "type": "checkpoint",
                "level": "info",
                "message": f"checkpoint of step {saved.step} saved",
                "data": facts,
                "created_at": saved.time,
            }
            renewal = self._append(s, event)
            if renewal is None:
                raise LeaseLostError(lease.job.id)
            return renewal

        asked_at = time.monotonic()
        with traces.span("job.checkpoint", step=saved.step):
            renewal = lease.write(publish)
        self._written(asked_at, renewal)
        return True

    def _store(self, folder: Path) -> list[FileEntry]:
        """Put a checkpoint into the blob store, while a cancel or a stop still reaches the engine.

        Its files are linked elsewhere first, since the engine may replace it before a slow store has it.
        """
        folder = stage.hold(folder, self._attempt.run_dir / _HELD)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="storing") as aside:
            storing = aside.submit(stage.store, folder, self._attempt.blobs)
            while not storing.done():
                if self._engine.poll() is None:
                    self._obey()
                wait([storing], timeout=_TICK_S)
        shutil.rmtree(self._attempt.run_dir / _HELD, ignore_errors=True)
        return storing.result()


def _started(event: Started) -> str:
    if not event.total_steps:
        return f"started on {event.device} in {event.precision}"
    origin = f"from step {event.start_step}" if event.start_step else "from the beginning"
    return f"started on {event.device} in {event.precision}: {event.total_steps} steps, {origin}"


def _sampled(event: Sample) -> str:
    """Return one line that is safe on a terminal; the event's data hold the whole texts."""
    prompt, answer = (json.dumps(text[:_SHOWN_CHARACTERS]) for text in (event.prompt, event.greedy))
    return f"step {event.step}: {prompt} is answered with {answer}"


def _facts(event: Started | Sample) -> dict[str, Any]:
    return event.model_dump(mode="json", exclude={"seq", "time", "type"})
