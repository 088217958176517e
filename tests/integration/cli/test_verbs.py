"""The verbs over HTTP against a real service on a database; nothing trains here."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cli.main import main
from tests.e2e.service import ROOT
from tests.integration.api.live import (
    Live,
    claimed,
    pretrain_spec,
    published,
    served,
    settled,
    submitted,
    text_file,
    until,
)

Run = Callable[..., str]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    shutil.copyfile(sqlite_template, home / "trainyard.db")
    with served(home, f"sqlite:///{home}/trainyard.db") as running:
        yield running


@pytest.fixture(autouse=True)
def _addressed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_URL", live.url)
    monkeypatch.setenv("TRAINYARD_API_KEY", live.mine.headers["authorization"].removeprefix("Bearer "))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; what it prints, when its exit code is the expected one."""

    def trainyard(*arguments: str, expect: int = 0) -> str:
        code = main(list(arguments))
        told = capsys.readouterr()
        assert code == expect, told.err
        return told.out if expect == 0 else told.err

    return trainyard


def completed(*words: str) -> list[str]:
    """What a shell offers for the last word."""
    asked = {"_TRAINYARD_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    command = ["env", *(f"{name}={value}" for name, value in asked.items()), sys.executable, "-m", "cli.main"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.split(",")[1] for line in done.stdout.split()]


def test_an_id_is_found_by_its_only_prefix_among_many(live: Live, run: Run) -> None:
    ids = [submitted(live) for _ in range(3)]
    assert run("jobs", "show", "-q", ids[1][:-1]).strip() == ids[1]
    assert run("jobs", "show", "-q", ids[1].removeprefix("job-")[:-1]).strip() == ids[1]


def test_a_prefix_of_several_ids_names_them(live: Live, run: Run) -> None:
    ids = [submitted(live) for _ in range(2)]
    told = run("jobs", "show", "0", expect=2)
    assert "More than one job" in told
    assert ids[1] in told


def test_a_clone_asks_for_what_was_asked_for_alone(live: Live, run: Run) -> None:
    file_id = text_file(live.mine)
    asked = pretrain_spec(file_id, suffix="base", hyperparameters={"max_steps": 7})
    job_id = live.mine.post("/v1/jobs", json=asked).json()["id"]
    spec = yaml.safe_load(run("jobs", "clone", job_id, "--print"))
    assert spec == asked
    made = json.loads(run("jobs", "clone", job_id, "--set", "hyperparameters.max_steps=8", "--json"))
    assert made["id"] != job_id
    assert (made["spec"]["hyperparameters"]["max_steps"], made["spec"]["suffix"]) == (8, "base")


def test_jobs_are_compared_by_what_differs(live: Live, run: Run) -> None:
    one, two = submitted(live, seed=1, suffix="same"), submitted(live, seed=2, suffix="same")
    told = json.loads(run("jobs", "compare", one, two, "--json"))
    assert told["jobs"] == [one, two]
    rows = {row["name"]: row["values"] for row in told["rows"]}
    assert rows["seed"] == [1, 2]
    assert rows["status"] == ["queued", "queued"]
    assert "suffix" not in rows


def test_comparing_takes_two_jobs(live: Live, run: Run) -> None:
    assert "at least two" in run("jobs", "compare", submitted(live), expect=2)


def test_an_order_says_how_each_job_stands(live: Live, run: Run) -> None:
    ids = [submitted(live) for _ in range(2)]
    assert [job["status"] for job in json.loads(run("jobs", "cancel", *ids, "--json"))] == ["cancelled"] * 2
    run("jobs", "wait", ids[0], expect=6)


def test_events_are_a_list_or_lines_of_json(live: Live, run: Run) -> None:
    job_id = submitted(live)
    assert [event["type"] for event in json.loads(run("jobs", "logs", job_id, "--json"))] == ["created"]
    assert json.loads(run("jobs", "logs", job_id, "--jsonl"))["type"] == "created"


def test_an_artifact_is_found_by_a_prefix_of_its_id(live: Live, run: Run, tmp_path: Path) -> None:
    made = published(live, "by-prefix", {"config.json": b"{}"})
    assert json.loads(run("models", "show", made.id[:-1], "--json"))["reference"] == "by-prefix/1"
    run("models", "pull", made.id[:-1], "-o", str(tmp_path))
    assert (tmp_path / "config.json").read_bytes() == b"{}"


def test_a_prefix_of_several_artifacts_names_them_unless_it_is_a_name(live: Live, run: Run) -> None:
    ids = [published(live, name, {"config.json": b"{}"}).id for name in ("one-of-two", "two-of-two")]
    told = run("models", "show", "model-0", expect=2)
    assert "More than one model begins with 'model-0'" in told
    assert ids[1] in told
    published(live, "model-0", {"config.json": b"{}"})
    assert json.loads(run("models", "show", "model-0", "--json"))["reference"] == "model-0/1"


def test_what_is_deleted_is_told_as_json(live: Live, run: Run) -> None:
    file_id = text_file(live.mine)
    assert json.loads(run("files", "rm", file_id, "--json"))["deleted"] is True
    run("files", "show", file_id, expect=4)


def test_an_evaluation_is_asked_for_in_one_line(live: Live, run: Run, tmp_path: Path) -> None:
    published(live, "scored", {"config.json": b"{}"})
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1 + 1?", "completion": "2"}\n')
    asked = ("evals", "run", "scored", str(rows), "--task", "generate", "--set", "evaluation.max_new_tokens=8")
    job = json.loads(run(*asked, "--json"))
    assert job["spec"]["model"] == "scored/1"
    assert job["spec"]["evaluation"]["max_new_tokens"] == 8
    assert run("evals", "ls", "-q").split()[0] == job["id"]
    assert "there are no figures" in run("evals", "show", job["id"], expect=65)


def test_an_ended_job_that_is_no_evaluation_is_not_shown_as_one(live: Live, run: Run) -> None:
    job_id = submitted(live)
    settled(live, job_id, claimed(live, job_id))
    assert "is of kind pretrain" in run("evals", "show", job_id, expect=65)


def test_a_shell_completes_ids_and_names_from_the_service(live: Live) -> None:
    job_id = submitted(live)
    published(live, "named", {"config.json": b"{}"})
    # A service that is busy is not waited for.
    until(lambda: job_id in completed("trainyard", "jobs", "show", job_id[:-2]), 30)
    until(lambda: completed("trainyard", "jobs", "show", job_id[4:-1]) == [job_id[4:]], 30)
    until(lambda: completed("trainyard", "models", "pull", "nam") == ["named", "named/1"], 30)
    until(lambda: completed("trainyard", "models", "promote", "nam") == ["named", "named/1"], 30)


def test_a_shell_completes_aliases(live: Live) -> None:
    published(live, "promoted", {"config.json": b"{}"})
    asked = {"model": "promoted/1", "alias": "production", "force": True}
    assert live.mine.post("/v1/aliases", json=asked).status_code == 201
    until(lambda: completed("trainyard", "models", "rollback", "prom") == ["promoted@production"], 30)
    until(lambda: completed("trainyard", "models", "aliases", "prom") == ["promoted@production"], 30)


def test_a_shell_completes_nothing_where_no_service_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_URL", "http://127.0.0.1:1")
    assert completed("trainyard", "jobs", "show", "job-0") == []


def test_the_doctor_takes_a_key_of_the_environment(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--quick", "--json"])  # what it says of the home is of another service's
    checks = {look["check"]: look for look in json.loads(capsys.readouterr().out)}
    assert checks["key"] == {"check": "key", "ok": True, "message": "TRAINYARD_API_KEY is set"}
    assert checks["service"]["message"] == f"{live.url} answers and accepts the key"
