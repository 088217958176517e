"""Logs: a line of JSON each, with the ids of what it is about."""

import logging
import sys
import time
from typing import Any

import orjson

from db import log_context

_MS = 1000


class JsonLines(logging.Formatter):
    """{"time", "level", "logger", "message", the ids of db.log_context, "exception"}; the time is UTC."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "time": f"{moment}.{int(record.created * _MS) % _MS:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **log_context.now(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(told, default=str).decode()


def begin() -> None:
    """Have this process log so, warnings too, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
