"""The command line as a shell sees it: exit codes, streams, and what is imported."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest

from cli.check import check, purpose_of
from cli.main import COMMANDS, cli, main


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRAINYARD_CONFIG", str(tmp_path / "credentials"))
    for name in ("TRAINYARD_API_KEY", "TRAINYARD_URL"):
        monkeypatch.delenv(name, raising=False)


def rows_file(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


GOOD = {"prompt": "1 + 1?", "completion": "2"}
BAD = {"prompt": "1 + 1?", "completion": 2}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage: trainyard" in capsys.readouterr().out


@pytest.mark.parametrize("more", [["--set", "seed=7"], ["--dry-run"]])
def test_a_plan_is_changed_by_no_option(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "create", "--plan", "plan-1", *more]) == 2
    assert "A plan is followed as it is" in capsys.readouterr().err


def commands(group: click.Group = cli) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {verb}", inner) for verb, inner in commands(command))
        else:
            yield name, command


def groups(group: click.Group = cli) -> Iterator[click.Group]:
    """Yield the root and every group below it."""
    yield group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from groups(command)


def test_every_command_has_a_short_help_that_fits_beside_its_name_in_80_columns() -> None:
    for group in groups():
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            assert command.short_help, f"{group.name} {name}"
            assert len(command.short_help) <= 45, f"{group.name} {name}"


def test_every_option_has_a_help() -> None:
    silent = [
        f"{words} {option.opts[-1]}"
        for words, command in commands()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert not silent


@pytest.mark.parametrize(("option", "value"), [("--tuning", "loras"), ("--gpu", "b200")])
def test_an_estimate_names_the_choices(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "llama-2-7b", "--tokens", "1e9", option, value]) == 2
    assert "is not one of" in capsys.readouterr().err


def test_every_command_speaks_json_but_those_that_print_what_is_no_data() -> None:
    silent = {name for name, command in commands() if "as_json" not in {option.name for option in command.params}}
    assert silent == {"demo", "jobs init", "completion"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert f"_TRAINYARD_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_a_verb_that_is_spelled_wrong_is_told_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "craete"]) == 2
    assert "Did you mean 'create'" in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "No such command 'trian'" in capsys.readouterr().err


def test_a_missing_key_says_where_it_was_looked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["jobs", "ls"]) == 3
    message = capsys.readouterr().err
    assert str(tmp_path / "credentials") in message
    assert "trainyard up" in message


def test_status_of_a_stopped_service_ends_with_69(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 69
    assert "`trainyard up` starts it" in capsys.readouterr().err


def test_down_without_a_service_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down"]) == 0
    assert "Nothing runs" in capsys.readouterr().err


def test_a_good_file_passes_the_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["files", "check", str(rows_file(tmp_path, GOOD))]) == 0
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "1 row of format completion" in streams.err


def test_a_fault_is_told_on_stdout_with_file_and_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["files", "check", str(rows_file(tmp_path, GOOD, BAD))]) == 65
    told = capsys.readouterr()
    assert told.out.startswith("rows.jsonl:2: completion")
    assert told.err == "1 fault in 1 line; 1 row is good.\n"


def test_a_faulty_upload_needs_no_service_to_be_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["files", "upload", str(rows_file(tmp_path, GOOD, BAD))]) == 65
    message = capsys.readouterr().err
    assert "Nothing uploaded" in message
    assert f"trainyard files upload {tmp_path / 'rows.jsonl'} --purpose fine-tune --skip-invalid" in message


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    assert main(["files", "check", str(tmp_path / "none.jsonl")]) == 2


def test_the_check_as_json_counts_by_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["files", "check", "--json", str(rows_file(tmp_path, GOOD, BAD))])
    report = json.loads(capsys.readouterr().out)
    assert report["fault_count"] == 1
    assert report["counts_by_code"] == {"wrong_type": 1}


def test_the_command_imports_neither_torch_nor_the_service() -> None:
    modules = ", ".join(place.partition(":")[0] for place in COMMANDS.values())
    heavy = "{'rich', 'torch', 'transformers', 'numpy', 'sqlalchemy', 'fastapi', 'celery', 'api', 'db', 'workers'}"
    script = f"import sys, {modules}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_port_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--port", "70000"]) == 2
    assert "0<=x<=65535" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str], serve) -> None:
    row = {"id": f"file-{'0' * 26}", "filename": "a.jsonl", "bytes": 1, "sha256": "0", "purpose": "pretrain"}
    serve(lambda request: httpx.Response(200, json=row))
    assert main(["files", "download", row["id"], "-o", "/no/such/folder/x"]) == 1
    assert capsys.readouterr().err == "trainyard: /no/such/folder: No such file or directory\n"


def test_an_error_gives_the_terminal_no_orders(capsys: pytest.CaptureFixture[str], serve) -> None:
    serve(lambda request: httpx.Response(422, json={"error": {"message": "no file \x1b[2J"}}))
    assert main(["jobs", "ls"]) == 65
    assert capsys.readouterr().err == "trainyard: no file \ufffd[2J\n"


@pytest.mark.parametrize(
    ("noun", "place"), [("file", "files"), ("ckpt", "checkpoints"), ("adapter", "adapters"), ("model", "models")]
)
def test_what_is_deleted_before_a_failure_is_told_as_json(
    noun: str, place: str, capsys: pytest.CaptureFixture[str], serve
) -> None:
    one, two = (f"{noun}-{digit * 26}" for digit in "01")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(two):
            return httpx.Response(409, json={"error": {"message": "a job needs it"}})
        return httpx.Response(200, json={"id": one, "deleted": True})

    serve(answer)
    assert main([place, "rm", one, two, "--json"]) == 65
    assert json.loads(capsys.readouterr().out) == [{"id": one, "deleted": True}]
    assert main([place, "rm", one, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": one, "deleted": True}


@pytest.mark.parametrize("command", [["aliases"], ["rollback"]])
def test_an_alias_is_quoted_in_its_address(command: list[str], serve, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(404, json={"error": {"message": "no such alias"}})

    serve(answer)
    assert main(["models", *command, "a?b\x1b@c"]) == 4
    assert asked[0].startswith(b"/v1/aliases/a%3Fb%1B@c")


def test_a_spec_that_an_older_release_accepted_is_not_cloned_to_nothing(
    serve, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = f"job-{'0' * 26}"
    serve(lambda request: httpx.Response(200, json={"spec": {"kind": "sft", "old": 1}, "origins": {}}))
    assert main(["jobs", "clone", job_id]) == 65
    assert f"trainyard jobs show {job_id} --json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "proposed"),
    [
        (
            {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1},
            "init eval > job.yaml    # with eval_file: file-1",
        ),
        ({"prompt": "1 + 1?", "chosen": "2", "rejected": "1"}, "init dpo > job.yaml    # with training_file: file-1"),
        (GOOD, "init sft > job.yaml    # with training_file: file-1"),
        ({"item": {"question": "1 + 1?"}}, ""),
    ],
)
def test_an_upload_is_followed_by_what_its_rows_are_for(
    row: dict, proposed: str, tmp_path: Path, serve, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rows_file(tmp_path, row)
    purpose = purpose_of(path)
    made = {"id": "file-1", "filename": path.name, "purpose": purpose, "format": check(path, purpose).format}
    made |= {"row_count": 1, "bytes": 1, "created_at": 0, "sha256": "0"}
    serve(lambda request: httpx.Response(200, json=made))
    assert main(["files", "upload", str(path)]) == 0
    assert capsys.readouterr().err.partition("next: trainyard jobs ")[2].strip() == proposed


def test_a_name_outside_the_encoding_of_the_terminal_is_printed_with_escapes(tmp_path: Path) -> None:
    path = rows_file(tmp_path, BAD).rename(tmp_path / "\u4e2d.jsonl")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "files", "check", str(path)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        check=False,
    )
    assert done.returncode == 65
    assert done.stdout.startswith(b"\\u4e2d.jsonl:1: completion")


def test_bash_completes_a_name_and_its_alias_as_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out + 'printf %s "$COMP_WORDBREAKS"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "@" not in done.stdout
