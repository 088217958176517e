"""Failures: the meaning of an engine's end, as a class, a code, a message and a mend."""

import errno
import logging
import os
import re
import signal
from pathlib import Path
from typing import NamedTuple

from db.errors import BlobsUnavailable, is_full
from engine.errors import (
    EXIT_CANCELLED,
    EXIT_DATA,
    EXIT_DIVERGED,
    EXIT_MEMORY,
    EXIT_OK,
    DataError,
    FailureClass,
    RankLost,
    SpecError,
    TouchLost,
)
from engine.events import Failed

RETRIED = frozenset({FailureClass.WORKER_LOST, FailureClass.BUG})
"""The classes of failures after which another attempt may succeed. The others would fail in the same way again."""

_TAIL_BYTES = 4096
_TAIL_CHARACTERS = 600
_SECRETS = re.compile(r"ty-[A-Za-z0-9_-]{20,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|hf_[A-Za-z0-9]{20,}")
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_ANEW = "Submit the job again."
_LOG = logging.getLogger(__name__)


class Failure(NamedTuple):
    """Why an attempt ended badly."""

    failure: FailureClass
    code: str
    message: str
    mend: str
    exit_code: int | None = None
    worker: str | None = None
    """The worker that it happened on, where that is another than the one that holds the job."""


ENGINE_KILLED = "engine_killed"
STOPPING = Failure(
    FailureClass.WORKER_LOST,
    "worker_stopping",
    "It was stopped before its engine began.",
    "Wait: the job is tried again.",
)
NO_BLOBS = Failure(
    FailureClass.WORKER_LOST, "no_blobs", "It cannot reach the blob store.", "Wait: the job is tried again."
)
NO_SPACE = Failure(FailureClass.WORKER_LOST, "no_space", "Its disk is full.", "Free some space on it.")

_BY_EXIT_CODE: dict[int, Failure] = {
    -signal.SIGKILL: Failure(
        FailureClass.WORKER_LOST,
        ENGINE_KILLED,
        "The engine was killed from outside (SIGKILL).",
        _ANEW,
    ),
    -signal.SIGTERM: Failure(
        FailureClass.WORKER_LOST, "engine_terminated", "The engine was terminated from outside (SIGTERM).", _ANEW
    ),
    EXIT_CANCELLED: Failure(
        FailureClass.WORKER_LOST, "engine_interrupted", "The engine was interrupted from outside (SIGINT).", _ANEW
    ),
    EXIT_DATA: Failure(
        FailureClass.DATA_ERROR,
        "data_or_spec",
        "The engine refused the data or the spec.",
        "Correct the file or the spec and submit the job again.",
    ),
    EXIT_MEMORY: Failure(
        FailureClass.OUT_OF_MEMORY,
        "out_of_memory",
        "The engine ran out of memory.",
        "Lower per_device_train_batch_size (of an evaluation per_device_eval_batch_size) or max_length, and submit "
        "the job again.",
    ),
    EXIT_DIVERGED: Failure(
        FailureClass.DIVERGED,
        "diverged",
        "The loss is no longer a number.",
        "Lower learning_rate, or raise warmup_steps, and submit the job again.",
    ),
    EXIT_OK: Failure(
        FailureClass.BUG,
        "engine_ended_early",
        "The engine ended without an error and without a result.",
        "Report it with the end of the job's log.",
    ),
}

_BY_SIGKILL = frozenset({ENGINE_KILLED, RankLost.CODE, TouchLost.CODE})
"""The codes of an engine that the kernel may have killed for lack of memory, which it does by SIGKILL."""

WORKER_LOST = Failure(
    FailureClass.WORKER_LOST,
    "worker_lost",
    "The worker has not been heard of: its process or its machine went away.",
    "Check the machine that the worker ran on, then submit the job again.",
)


def classify(exit_code: int, failed: Failed | None, log: Path) -> Failure:
    """Return the failure that the engine reported, else what its exit code or signal means, with the end of its log."""
    if failed is not None:
        return Failure(failed.failure, failed.code, failed.message, failed.mend, exit_code)
    known = _BY_EXIT_CODE.get(exit_code) or _unknown(exit_code)
    last_words = end_of(log)
    message = f"{known.message} The end of its log: {last_words}" if last_words else known.message
    return known._replace(message=message, exit_code=exit_code)


def for_want_of_memory(failure: Failure, lighter: str | None) -> Failure:
    """Return the failure as one for lack of memory, if the engine may have been killed for that.

    `lighter` names the settings that would take less memory, by the engine's plan.
    """
    if failure.failure is not FailureClass.WORKER_LOST or failure.code not in _BY_SIGKILL:
        return failure
    general = _BY_EXIT_CODE[EXIT_MEMORY]
    return general._replace(
        message=f"The kernel killed the engine, or one of its processes, for lack of memory. {failure.message}",
        mend=f"By the memory plan each of these takes less: {lighter}. Or use a larger machine."
        if lighter
        else general.mend,
        exit_code=failure.exit_code,
    )


def classify_error(error: Exception) -> Failure:
    """Return what an error in the worker, before or after the engine's run, means for the attempt, and log it."""
    if isinstance(error, (SpecError, DataError)):
        return Failure(error.failure, error.code, error.message, error.mend)
    if isinstance(error, BlobsUnavailable) or is_full(error):
        _LOG.warning("the attempt is put off: %s", error)
        return (NO_BLOBS if isinstance(error, BlobsUnavailable) else NO_SPACE)._replace(message=str(error))
    _LOG.error("the attempt fails by a mistake of the worker", exc_info=error)
    return Failure(
        FailureClass.BUG,
        "worker_error",
        f"The worker failed: {type(error).__name__}: {_cut(str(error))}",
        "Report it with the worker's log.",
    )


def for_want_of_space(failure: Failure) -> bool:
    """Return whether a disk was full: the worker's own code says so, of the engine only the end of its log."""
    in_log = failure.failure is FailureClass.BUG and any(reason in failure.message for reason in _FULL)
    return in_log or failure.code == NO_SPACE.code


def end_of(log: Path) -> str:
    """Return the end of a log on one line, without secrets."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return _cut(text)


def _cut(text: str) -> str:
    text = _SECRETS.sub("[hidden]", text).replace("\x00", "")
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-_TAIL_CHARACTERS:]


def _unknown(exit_code: int) -> Failure:
    how = f"by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"with exit code {exit_code}"
    return Failure(
        FailureClass.BUG,
        "engine_crashed",
        f"The engine ended {how} and reported nothing.",
        "Report it with the end of the job's log.",
    )
