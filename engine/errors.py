"""How a run can end badly: a class, a code, a sentence and a mend, and the exit code that goes with it."""

from enum import StrEnum
from typing import Self


class FailureClass(StrEnum):
    """Why a run failed; the service decides by it whether another attempt makes sense."""

    DATA_ERROR = "data_error"
    """The rows cannot be trained on. Never retried."""
    SPEC_ERROR = "spec_error"
    """The spec asks for what this model or machine cannot do. Never retried."""
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
"""EX_TEMPFAIL: stopped on SIGTERM after saving a checkpoint; run the same directory again to go on."""
EXIT_MEMORY = 71
EXIT_DIVERGED = 72
EXIT_CANCELLED = 130
"""Stopped on SIGINT, nothing saved."""


class EngineError(ValueError):
    """A failure with a class, told to the user as `message` and `mend`."""

    failure = FailureClass.BUG
    exit_code = EXIT_BUG

    def __init__(self, code: str, message: str, mend: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.mend = mend

    def about(self, place: str) -> Self:
        """The same, which says of which file or part it is."""
        self.message = f"{place}: {self.message}"
        return self


class DataError(EngineError):
    """The rows cannot be trained on."""

    failure = FailureClass.DATA_ERROR
    exit_code = EXIT_DATA


class NoTrainedToken(DataError):
    """Rows that are well formed, and yet hold nothing to train or score."""

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
    """One of the processes that carry out a run together is gone."""

    CODE = "rank_lost"
    failure = FailureClass.WORKER_LOST

    def __init__(self, message: str) -> None:
        super().__init__(self.CODE, message, "The run goes on from its last checkpoint when it is started again.")


class TouchLost(RankLost):
    """What the others notice of it, and of one that does not answer; why, they cannot tell."""

    CODE = "touch_lost"
