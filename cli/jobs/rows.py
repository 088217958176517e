"""The command `trainyard jobs rows`: the rows that a step was trained on."""

import click

from cli.client import Client
from cli.completion import JOB
from cli.output import Column, print_rows, rows_options, suggest

_COLUMNS: list[Column] = [
    ("file", lambda row: row["file"]),
    ("line", lambda row: row["line"]),
    ("loss", lambda row: row["loss"]),
    ("labels", lambda row: row["labels"]),
]


@click.command(short_help="Show the rows of a step and their losses.")
@click.argument("job_id", shell_complete=JOB)
@click.argument("step", type=click.IntRange(min=1))
@rows_options
def rows(job_id: str, step: int, as_json: bool) -> None:
    """Show the rows of one step and the loss of each, largest first; known from the next checkpoint on."""
    client = Client()
    job_id = client.whole_id("job", job_id)
    print_rows(client.get(f"jobs/{job_id}/steps/{step}/rows")["data"], _COLUMNS, as_json=as_json, quiet=False)
    suggest(f"trainyard jobs tokens {job_id} {step}")
