"""Log lines: JSON, one each, with the ids of what they are about."""

import io
import json
import logging
import threading
from contextvars import copy_context
from typing import Any

import pytest

from db import log_context
from db.logs import JsonLines


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(JsonLines())
    logger = logging.Logger("trainyard.tests")  # noqa: LOG001 - one of its own, which nobody else configures
    logger.addHandler(handler)
    return logger, told


def lines(told: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.getvalue().splitlines()]


def test_a_line_has_its_time_level_logger_and_message(log: tuple[logging.Logger, io.StringIO]):
    log[0].warning("%d jobs\nwait", 3)
    (line,) = lines(log[1])
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "trainyard.tests", "message": "3 jobs\nwait"}


def test_a_line_names_what_the_work_is_about_and_only_inside_it(log: tuple[logging.Logger, io.StringIO]):
    with log_context.work(job_id="job-1"):
        with log_context.work(attempt=2):
            log[0].info("inside")
        log[0].info("between")
    log[0].info("outside")
    told = [(line.get("job_id"), line.get("attempt")) for line in lines(log[1])]
    assert told == [("job-1", 2), ("job-1", None), (None, None)]


def test_a_thread_that_is_given_the_context_names_it_too(log: tuple[logging.Logger, io.StringIO]):
    with log_context.work(job_id="job-1"):
        thread = threading.Thread(target=copy_context().run, args=(log[0].info, "aside"))
    thread.start()
    thread.join()
    assert lines(log[1])[0]["job_id"] == "job-1"


def test_an_exception_stands_in_the_line(log: tuple[logging.Logger, io.StringIO]):
    try:
        int("no good")
    except ValueError:
        log[0].exception("it failed")
    (line,) = lines(log[1])
    assert line["message"] == "it failed"
    assert line["exception"].endswith("invalid literal for int() with base 10: 'no good'")
