"""The journal of a run: writes `events.jsonl`, one event per line, flushed when a call returns."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from engine.events import EVENT


class Journal:
    """Appends events to the file; `seq` continues from the last line of an earlier process of the attempt."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self._seq = _last_seq(path)
        self._turn = Lock()
        self._file = path.open("a", encoding="utf-8")

    def write(self, type_: str, **fields: Any) -> None:
        """Write one event of engine.events, which checks its fields."""
        with self._turn:
            self._seq += 1
            event = EVENT.validate_python({"seq": self._seq, "time": time.time(), "type": type_, **fields})
            self._file.write(json.dumps(event.model_dump(mode="json"), allow_nan=False, ensure_ascii=False) + "\n")
            self._file.flush()

    def log(self, level: Literal["info", "warn", "error"], code: str, message: str, **data: Any) -> None:
        self.write("log", level=level, code=code, message=message, data=data)

    def metrics(self, step: int, split: Literal["train", "eval"], values: Mapping[str, float | None]) -> None:
        self.write("metrics", step=step, split=split, values=finite(values))

    def finish(self, step: int, metrics: Mapping[str, float | None], **more: Any) -> None:
        self.write("finished", step=step, metrics=finite(metrics), **more)

    def close(self) -> None:
        self._file.close()


def finite(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the values with NaN and infinities, which JSON does not have, as None."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}


def _last_seq(path: Path) -> int:
    """Return the last number written. A line that a kill cut short is removed, so that every line parses."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    lines = whole.splitlines()
    return int(json.loads(lines[-1])["seq"]) if lines else 0
