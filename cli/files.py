"""The group `trainyard files`: check, upload, list, show, preview, download and delete data files."""

import sys
from pathlib import Path

import click

from cli.check import check as check_rows
from cli.check import fault_line, purpose_of, require_valid, tally, without_faults
from cli.client import DESTRUCTIVE_FEWEST, Client
from cli.completion import FILE
from cli.errors import CommandError, Exit
from cli.output import (
    Column,
    counted,
    format_options,
    moment,
    print_done,
    print_fields,
    print_json,
    print_rows,
    reader_may_go,
    say,
    size,
    suggest,
)
from cli.preview import KIND_OF_FORMAT, preview
from cli.pull import fetch, missing_bytes, require_room
from cli.upload import upload_file

PURPOSES = ("pretrain", "fine-tune", "evals")
_COLUMNS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("name", lambda row: row["filename"]),
    ("purpose", lambda row: row["purpose"]),
    ("format", lambda row: row["format"]),
    ("rows", lambda row: row["row_count"]),
    ("size", lambda row: size(row["bytes"])),
    ("created", lambda row: moment(row["created_at"])),
]
_FIELDS = [*_COLUMNS, ("sha256", lambda row: row["sha256"])]
_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)
_purpose = click.option(
    "--purpose", type=click.Choice(PURPOSES), help="What the rows are for; default: from their format."
)


@click.group(short_help="Data files: check, upload, preview.")
def files() -> None:
    """Data files: text for pre-training, rows for fine-tuning and evaluation."""


files.add_command(preview)


@files.command(short_help="Check a file without a service.")
@click.argument("path", type=_PATH)
@_purpose
@format_options
def check(path: Path, purpose: str | None, as_json: bool, quiet: bool) -> int:
    """Check a file locally, without a service, and print `file:line:column: fault` for each fault."""
    report = check_rows(path, purpose or purpose_of(path))
    with reader_may_go(sys.stdout):
        if as_json:
            print_json({**report._asdict(), "faults": [fault._asdict() for fault in report.faults]})
        elif not quiet:
            for fault in report.faults:
                click.echo(fault_line(path.name, fault))
    if report.fault_count:
        say(tally(report))
        return Exit.INVALID
    say(f"{path.name}: {counted(report.row_count, 'row')} of format {report.format}, no faults.")
    suggest(f"trainyard files upload {path}")
    return Exit.OK


@files.command(short_help="Check and upload a file.")
@click.argument("path", type=_PATH)
@_purpose
@click.option("--skip-invalid", is_flag=True, help="Leave faulty lines out instead of refusing the file.")
@format_options
def upload(path: Path, purpose: str | None, skip_invalid: bool, as_json: bool, quiet: bool) -> None:
    """Check a file and upload it. If it has faults, nothing is uploaded and the exit code is 65."""
    purpose = purpose or purpose_of(path)
    if skip_invalid:
        with without_faults(path, purpose) as (kept, _):
            row = upload_file(Client(), kept, purpose)
    else:
        require_valid(path, purpose)
        row = upload_file(Client(), path, purpose)
    print_fields(row, _FIELDS, as_json=as_json, quiet=quiet)
    if row["format"] == "item":
        return  # only graders read these rows, no job does
    kind = "eval" if purpose == "evals" else KIND_OF_FORMAT.get(row["format"], "sft")
    field = "eval_file" if kind == "eval" else "training_file"
    suggest(f"trainyard jobs init {kind} > job.yaml", f"with {field}: {row['id']}")


@files.command("ls", short_help="List files, newest first.")
@click.option("--purpose", type=click.Choice(PURPOSES), help="Only files of this purpose.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most rows to list.")
@format_options
def list_files(purpose: str | None, limit: int, as_json: bool, quiet: bool) -> None:
    """List files, newest first."""
    rows = list(Client().pages("files", limit, purpose=purpose))
    print_rows(rows, _COLUMNS, as_json=as_json, quiet=quiet)
    suggest(f"trainyard files show {rows[0]['id']}" if rows else "trainyard files upload my.jsonl")


@files.command(short_help="Show one file.")
@click.argument("file_id", shell_complete=FILE)
@format_options
def show(file_id: str, as_json: bool, quiet: bool) -> None:
    """Show one file."""
    client = Client()
    row = client.get(f"files/{client.whole_id('file', file_id)}")
    print_fields(row, _FIELDS, as_json=as_json, quiet=quiet)
    suggest(f"trainyard files preview {row['id']} --model MODEL")


@files.command(short_help="Download one file.")
@click.argument("file_id", shell_complete=FILE)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write; default: ./FILENAME.")
@format_options
def download(file_id: str, output: Path | None, as_json: bool, quiet: bool) -> None:
    """Download a file. Its checksum is verified; an interrupted download resumes."""
    client = Client()
    row = client.get(f"files/{client.whole_id('file', file_id)}")
    target = output or Path(Path(row["filename"]).name)
    if target.is_dir():
        target /= Path(row["filename"]).name
    if target.exists():
        raise CommandError(f"{target} already exists.", Exit.USAGE, "Give another name with -o.")
    require_room(target.absolute().parent, missing_bytes(target, row["bytes"]))
    fetch(client, f"files/{row['id']}/content", target, row["bytes"], row["sha256"])
    if as_json:
        print_json({"path": str(target), **row})
    else:
        click.echo(row["id"] if quiet else target)
    suggest(f"trainyard files check {target}" if row["purpose"] in PURPOSES else "trainyard files ls")


@files.command(short_help="Delete files.")
@click.argument("file_ids", nargs=-1, required=True, shell_complete=FILE)
@format_options
def rm(file_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Delete files. Jobs that were made with them keep their results."""
    del quiet  # only ids are printed anyway
    client = Client()
    ids = (client.whole_id("file", given, fewest=DESTRUCTIVE_FEWEST) for given in file_ids)
    done = ((file_id, client.delete(f"files/{file_id}")) for file_id in ids)
    print_done(done, asked=len(file_ids), as_json=as_json)
    suggest("trainyard files ls")
