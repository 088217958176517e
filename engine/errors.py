"""The ways in which a run can fail: each with a class, a code, a message, a mend and an exit code."""

from enum import StrEnum
from typing import Self


class FailureClass(StrEnum):
    """Why a run failed, by which the service decides whether another attempt makes sense."""

    DATA_ERROR = "data_error"
    """The rows cannot be trained on. Never retried."""
    SPEC_ERROR = "spec_error"
    """The spec asks for something that this model or machine cannot do. Never retried."""
    OUT_OF_MEMORY = "out_of_memory"
    """The device or the machine ran out of memory. Never retried unchanged."""
    DIVERGED = "diverged"
    """The loss is no longer a number. Never retried unchanged."""
    WORKER_LOST = "worker_lost"
    """The process or its machine went away. Retried from the last checkpoint."""
    BUG = "bug"
    """Anything else. Retried, within max_attempts."""


EXIT_OK = 0
EXIT_BUG = 1
EXIT_DATA = 65
"""EX_DATAERR: data or spec."""
EXIT_STOPPED = 75
"""EX_TEMPFAIL: stopped on SIGTERM after saving a checkpoint; run the same directory again to resume."""
EXIT_MEMORY = 71
EXIT_DIVERGED = 72
EXIT_CANCELLED = 130
"""Stopped on SIGINT, nothing saved."""


class EngineError(ValueError):
    """A failure with a class, shown to the user as `message` and `mend`."""

    failure = FailureClass.BUG
    exit_code = EXIT_BUG

    def __init__(self, code: str, message: str, mend: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.mend = mend

    def fields(self) -> dict[str, str]:
        """Return the fields of the event `failed` (engine.events)."""
        return {"failure": self.failure, "code": self.code, "message": self.message, "mend": self.mend}

    def about(self, place: str) -> Self:
        """Prefix the message with the file or part that the failure is about, and return the error."""
        self.message = f"{place}: {self.message}"
        return self


class DataError(EngineError):
    """The rows cannot be trained on."""

    failure = FailureClass.DATA_ERROR
    exit_code = EXIT_DATA


class NoTrainedToken(DataError):
    """The rows are well formed, but hold nothing to train on or to score."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__("no_trained_token", message, mend)


class SpecError(EngineError):
    """The spec cannot be carried out on this model or machine."""

    failure = FailureClass.SPEC_ERROR
    exit_code = EXIT_DATA


class OutOfMemory(EngineError):
    """The device or the machine ran out of memory."""

    failure = FailureClass.OUT_OF_MEMORY
    exit_code = EXIT_MEMORY


class Diverged(EngineError):
    """The loss or the gradient is no longer a number."""

    failure = FailureClass.DIVERGED
    exit_code = EXIT_DIVERGED


class RankLost(EngineError):
    """One of the processes that share a run is gone."""

    CODE = "rank_lost"
    failure = FailureClass.WORKER_LOST

    def __init__(self, message: str) -> None:
        super().__init__(self.CODE, message, "The run resumes from its last checkpoint when it is started again.")


class TouchLost(RankLost):
    """Another process is gone or does not answer, as its peers see it: they do not know why."""

    CODE = "touch_lost"
