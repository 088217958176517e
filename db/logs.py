"""Logs as JSON lines, each with the ids of the request or attempt that it belongs to."""

import logging
import sys
import time
from typing import Any

import orjson

from db import log_context

_MS = 1000


class JsonLines(logging.Formatter):
    """Formats a record as {"time", "level", "logger", "message", the ids of db.log_context, "exception"}, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{moment}.{int(record.created * _MS) % _MS:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **log_context.now(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(fields, default=str).decode()


def begin() -> None:
    """Configure this process to log JSON lines to stderr, Python's warnings included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
