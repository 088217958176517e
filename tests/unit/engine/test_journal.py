"""The journal of a run, events.jsonl."""

import json
from contextlib import closing

import pytest
from pydantic import ValidationError

from engine.journal import Journal


def test_every_line_is_there_when_the_call_returns(tmp_path):
    with closing(Journal(tmp_path / "events.jsonl")) as journal:
        journal.log("info", "hello", "Grüße", count=2)
        line = json.loads((tmp_path / "events.jsonl").read_text())
    assert (line["seq"], line["message"], line["data"]) == (1, "Grüße", {"count": 2})


def test_numbers_go_on_in_an_existing_file(tmp_path):
    for _ in range(2):
        with closing(Journal(tmp_path / "events.jsonl")) as journal:
            journal.write("stopped", step=3)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2]


def test_a_line_that_was_cut_short_is_taken_away(tmp_path):
    path = tmp_path / "events.jsonl"
    with closing(Journal(path)) as journal:
        journal.write("stopped", step=3)
    with path.open("a") as file:
        file.write('{"seq": 2, "ti')
    with closing(Journal(path)) as journal:
        journal.write("stopped", step=4)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [3, 4]


def test_what_is_not_finite_is_null(tmp_path):
    with closing(Journal(tmp_path / "events.jsonl")) as journal:
        journal.metrics(1, "train", {"loss": float("nan"), "mfu": float("inf"), "tokens": 3.0})
    assert json.loads((tmp_path / "events.jsonl").read_text())["values"] == {"loss": None, "mfu": None, "tokens": 3.0}


def test_an_event_that_the_service_does_not_know_is_refused(tmp_path):
    with closing(Journal(tmp_path / "events.jsonl")) as journal, pytest.raises(ValidationError):
        journal.write("surprise", step=3)
