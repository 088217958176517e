"""The group `trainyard checkpoints`: the states that training jobs have saved."""

from pathlib import Path

import click

from cli.artifacts import COLUMNS, FIELDS, pull_artifact
from cli.client import DESTRUCTIVE_FEWEST, Client
from cli.completion import CHECKPOINT, JOB
from cli.output import format_options, print_done, print_fields, print_json, print_rows, suggest
from cli.pull import here
from cli.verify import require_own

_COLUMNS = [column for column in COLUMNS if column[0] != "reference"]
_checkpoint = click.argument("checkpoint_id", shell_complete=CHECKPOINT)


@click.group(short_help="Checkpoints of training jobs.")
def checkpoints() -> None:
    """Checkpoints: states saved by training jobs while they run."""


@checkpoints.command("ls", short_help="List checkpoints, newest first.")
@click.option("--job", "job_id", help="Only checkpoints of this job.", shell_complete=JOB)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most rows to list.")
@format_options
def list_checkpoints(job_id: str | None, limit: int, as_json: bool, quiet: bool) -> None:
    """List checkpoints, newest first."""
    client = Client()
    whole = None if job_id is None else client.whole_id("job", job_id)
    rows = list(client.pages("checkpoints", limit, job_id=whole))
    print_rows(rows, _COLUMNS, as_json=as_json, quiet=quiet)
    suggest(f"trainyard checkpoints pull {rows[0]['id']}" if rows else "trainyard jobs ls")


@checkpoints.command(short_help="Show one checkpoint.")
@_checkpoint
@format_options
def show(checkpoint_id: str, as_json: bool, quiet: bool) -> None:
    """Show one checkpoint: its figures, digest and lineage."""
    client = Client()
    row = client.get(f"checkpoints/{client.whole_id('ckpt', checkpoint_id)}")
    print_fields(row, [field for field in FIELDS if field[0] != "reference"], as_json=as_json, quiet=quiet)
    suggest(f"trainyard checkpoints pull {row['id']}", f"or continue_from: {row['id']} in a spec")


@checkpoints.command(short_help="Download one checkpoint.")
@_checkpoint
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Target folder; default: ./ID.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
@click.option("-q", "--quiet", is_flag=True, help="Print the id only.")
def pull(checkpoint_id: str, output: Path | None, as_json: bool, quiet: bool) -> None:
    """Download weights and optimizer state. Checksums are verified; an interrupted download resumes."""
    client = Client()
    whole = client.whole_id("ckpt", checkpoint_id)
    folder = output or here(whole)
    require_own(folder, whole)
    manifest = pull_artifact(client, "checkpoint", whole, folder)
    if as_json:
        print_json(manifest)
    else:
        click.echo(whole if quiet else folder)
    suggest(f"trainyard chat {whole}")


@checkpoints.command(short_help="Delete checkpoints.")
@click.argument("checkpoint_ids", nargs=-1, required=True, shell_complete=CHECKPOINT)
@format_options
def rm(checkpoint_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Delete checkpoints that no unfinished job needs."""
    del quiet  # only ids are printed anyway
    client = Client()
    ids = (client.whole_id("ckpt", given, fewest=DESTRUCTIVE_FEWEST) for given in checkpoint_ids)
    done = ((whole, client.delete(f"checkpoints/{whole}")) for whole in ids)
    print_done(done, asked=len(checkpoint_ids), as_json=as_json)
    suggest("trainyard checkpoints ls")
