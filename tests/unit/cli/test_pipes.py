"""Commands whose readers have gone, over real pipes: what they do and how they end is theirs to say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SERVED = """
import json, sys
import httpx
from cli.main import main

told, asked, *arguments = sys.argv[1:]
real = httpx.Client

def answer(request):
    with open(asked, "a") as log:
        log.write(f"{request.method} {request.url.path}\\n")
    if told == "interrupt":
        raise KeyboardInterrupt
    status, row = json.loads(told)
    return httpx.Response(status, json=row)

httpx.Client = lambda **options: real(transport=httpx.MockTransport(answer), **options)
sys.exit(main(arguments))
"""
JOB = f"job-{'0' * 26}"
FAILED = {
    "id": JOB,
    "kind": "sft",
    "status": "failed",
    "started_at": 0,
    "finished_at": 1,
    "error": {"class": "data", "code": "empty", "message": "no rows", "mend": "Give some."},
}
GONE = {"error": {"message": "no such job"}}
FILES = [f"file-{digit * 26}" for digit in "01"]


class Piped:
    """The command, beside a service that always answers the same."""

    def __init__(self, folder: Path) -> None:
        self.asked = folder / "asked"
        key = {"TRAINYARD_URL": "http://service", "TRAINYARD_API_KEY": "ty-key"}
        self.environment = {**os.environ, **key, "TRAINYARD_HOME": str(folder / "home")}

    def run(self, *arguments: str, unread: str, told: object = None) -> tuple[int, bytes]:
        """The exit code, and what whoever still reads has been told; `unread` names the streams that nobody does."""
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as gone:
            streams: dict[str, Any] = {
                name: gone if name in unread else subprocess.PIPE for name in ("stdout", "stderr")
            }
            answer = told if isinstance(told, str) else json.dumps(told)
            command = [sys.executable, "-c", SERVED, answer, str(self.asked), *arguments]
            done = subprocess.run(command, env=self.environment, check=False, **streams)
        return done.returncode, (done.stdout or b"") + (done.stderr or b"")


@pytest.fixture
def piped(tmp_path: Path) -> Piped:
    return Piped(tmp_path)


@pytest.mark.parametrize("arguments", [["jobs", "init", "sft"], ["--help"]])
def test_a_reader_who_has_enough_is_no_fault(arguments: list[str], piped: Piped) -> None:
    assert piped.run(*arguments, unread="stdout") == (0, b"")


def test_a_list_ends_with_its_reader(piped: Piped) -> None:
    page = {"data": [], "has_more": False}
    assert piped.run("jobs", "ls", unread="stdout", told=[200, page]) == (0, b"")


def test_narration_that_nobody_reads_is_no_fault(piped: Piped) -> None:
    assert piped.run("jobs", "init", "sft", unread="stdout and stderr") == (0, b"")


@pytest.mark.parametrize(
    ("options", "unread"),
    [([], "stderr"), (["-q"], "stdout"), (["--json"], "stdout"), (["--json"], "stdout and stderr")],
)
def test_a_job_that_failed_has_failed_whoever_reads_it(options: list[str], unread: str, piped: Piped) -> None:
    code, told = piped.run("jobs", "wait", JOB, *options, unread=unread, told=[200, FAILED])
    assert code == 5
    assert (b"no rows" in told) is ("stderr" not in unread)


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_a_bad_file_is_bad_whoever_reads_its_faults(
    options: list[str], unread: str, piped: Piped, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text("bad\n" * 1000)
    code, told = piped.run("files", "check", str(tmp_path / "bad.jsonl"), *options, unread=unread)
    assert code == 65
    assert (b"1000 faults in 1000 lines" in told) is (unread == "stdout")


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_an_order_reaches_all_whoever_reads_what_was_done(options: list[str], unread: str, piped: Piped) -> None:
    code, told = piped.run("files", "rm", *FILES, *options, unread=unread, told=[200, {"deleted": True}])
    assert code == 0
    assert piped.asked.read_text().splitlines() == [f"DELETE /v1/files/{file_id}" for file_id in FILES]
    assert b"Traceback" not in told


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (["jobs", "show", JOB], [404, GONE], 4),
        (["jobs", "show", JOB], "interrupt", 130),
        (["jobs", "wait", JOB], "interrupt", 130),
        (["jobs", "show", "--no-such-option"], None, 2),
        (["files", "download", FILES[0], "-o", "/no/such/folder/x"], [200, {"id": FILES[0], "bytes": 1}], 1),
    ],
)
def test_an_error_that_nobody_reads_has_its_exit_code(
    arguments: list[str], told: object, code: int, piped: Piped
) -> None:
    assert piped.run(*arguments, unread="stderr", told=told) == (code, b"")


def test_a_check_that_found_something_amiss_says_so_whoever_reads_it(piped: Piped) -> None:
    piped.environment["TRAINYARD_HOME"] = "/proc/none"
    code, told = piped.run("doctor", "--quick", unread="stdout", told=[404, GONE])
    assert code == 1
    assert b"once that is fixed" in told
