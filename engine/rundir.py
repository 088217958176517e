"""The run directory, with the inputs of a run and its results."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import DataError, SpecError

_CACHE_BYTES = 16 * 2**30


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run. `model/`, `adapter/` and `data/` are read-only: their files may be hard links that are shared."""

    root: Path

    def read_job(self) -> dict[str, Any]:
        """Read job.json: {"job_id", "attempt", "spec"}."""
        try:
            return json.loads((self.root / "job.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise SpecError(
                "job_not_read", f"job.json cannot be read: {error}", 'It holds {"job_id", "attempt", "spec"}.'
            ) from error

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def ranks(self) -> Path:
        """Where the processes of a run meet; all but the first keep their events there."""
        return self.root / "ranks"

    def events_of(self, rank: int) -> Path:
        return self.ranks / f"{rank}.jsonl" if rank else self.events

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def half_written(self) -> list[Path]:
        """Return the checkpoints that are being written, or were when their writer was killed."""
        return list(self.checkpoints.glob(".writing-*"))

    @property
    def continued(self) -> Path:
        """The optimizer state, from another job's checkpoint, that the job starts with."""
        return self.root / "continued"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def merged(self) -> Path:
        """The adapter in output/ merged into its base, if the job asks for that."""
        return self.root / "output-merged"

    @property
    def cache(self) -> Path:
        """Results that are found by content; in a worker, a link to the cache of all its jobs."""
        return self.root / "cache"

    @property
    def cache_limit_bytes(self) -> int:
        return int(os.environ.get("TRAINYARD_CACHE_BYTES", _CACHE_BYTES))

    @property
    def items(self) -> Path:
        return self.root / "items.jsonl"

    @property
    def model(self) -> Path | None:
        return _present(self.root / "model")

    @property
    def adapter(self) -> Path | None:
        return _present(self.root / "adapter")

    @property
    def baseline(self) -> Path | None:
        """The model that an evaluation compares with; `baseline_adapter` is the adapter on it."""
        return _present(self.root / "baseline")

    @property
    def baseline_adapter(self) -> Path | None:
        return _present(self.root / "baseline-adapter")

    def base_model(self) -> Path:
        """Return the base weights, for jobs that need them."""
        if self.model is None:
            raise SpecError("model_missing", "the run directory has no model/", "Put the base weights there.")
        return self.model

    def data(self, name: str) -> Path | None:
        """Return data/`name`.jsonl or .txt, whichever exists."""
        return _present(self.root / "data" / f"{name}.jsonl") or _present(self.root / "data" / f"{name}.txt")

    def required_data(self, name: str) -> Path:
        path = self.data(name)
        if path is None:
            raise DataError("data_missing", f"the run directory has no data/{name}.jsonl or .txt", "Put it there.")
        return path


def _present(path: Path) -> Path | None:
    return path if path.exists() else None
