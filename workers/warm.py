"""The warm engine: a process that has done its imports and waits for the next job."""

import logging
from pathlib import Path

from workers.process import EngineProcess

_LOG = logging.getLogger(__name__)


class WarmEngine:
    """Holds at most one waiting engine. Each runs one job; `prepare` starts the next.

    Both methods are for the main thread only (see EngineProcess), and neither waits: an engine that is still importing
    takes its run directory when it is done, which is never later than a new engine would.
    """

    def __init__(self, log_path: Path, *, enabled: bool) -> None:
        self._log_path = log_path
        self._enabled = enabled
        self._waiting: EngineProcess | None = None

    def prepare(self) -> None:
        """Start an engine that waits, if that is enabled and none does."""
        if self._enabled and (self._waiting is None or self._waiting.poll() is not None):
            try:
                self._waiting = EngineProcess.waiting(self._log_path)
            except OSError as error:  # it must not fail the job that runs meanwhile
                self._waiting = None
                _LOG.warning("no engine is made ready for the next job: %s", error)

    def start(self, run_dir: Path) -> EngineProcess:
        """Return an engine at work on `run_dir`: the waiting one, else a cold one."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.poll() is None:
            try:
                waiting.hand_over(run_dir, self._log_path)
            except BrokenPipeError:
                waiting.end()
                _LOG.warning("the warm engine ended as it was given its job; a cold one is started")
            else:
                return waiting
        return EngineProcess.cold(run_dir)

    def close(self) -> None:
        """End the waiting engine."""
        if self._waiting is not None:
            self._waiting.end()
        self._log_path.unlink(missing_ok=True)
