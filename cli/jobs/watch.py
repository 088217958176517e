"""The commands `trainyard jobs logs`, `metrics` and `wait`: a job's events and figures, and its end."""

import math
from typing import Any

import click

from cli.client import Client
from cli.completion import JOB
from cli.errors import Exit
from cli.jobs.follow import ENDS, await_end, detachable, follow, report_end
from cli.jobs.listing import next_of
from cli.output import (
    Column,
    format_options,
    legible,
    moment,
    print_fields,
    print_json,
    print_jsonl,
    print_rows,
    rows_options,
    suggest,
)
from cli.stream import follow_stream

_METRIC_COLUMNS: list[Column] = [
    ("step", lambda row: row["step"]),
    ("split", lambda row: row["split"]),
    ("loss", lambda row: row["values"].get("loss", row["values"].get("eval_loss"))),
    ("learning rate", lambda row: row["values"].get("learning_rate")),
    ("grad norm", lambda row: row["values"].get("grad_norm")),
    ("tok/s", lambda row: row["values"].get("tokens_per_s")),
    ("mfu", lambda row: row["values"].get("mfu")),
]
_jsonl = click.option("--jsonl", is_flag=True, help="Print one JSON object per line.")


@click.command(short_help="Show the events of a job.")
@click.argument("job_id", shell_complete=JOB)
@click.option("-f", "--follow", "attach", is_flag=True, help="Follow the job to its end; Ctrl-C detaches.")
@click.option("--level", type=click.Choice(["info", "warn", "error"]), help="Only events of this level.")
@click.option("--jsonl", is_flag=True, help="Print one JSON object per line; with -f the whole stream.")
@rows_options
def logs(job_id: str, attach: bool, level: str | None, jsonl: bool, as_json: bool) -> int:
    """Show the events of a job, oldest first."""
    if attach and (as_json or level):
        raise click.UsageError("-f shows the whole stream: use --jsonl, without --json and --level.")
    client = Client()
    job_id = client.whole_id("job", job_id)
    if attach:
        return attached(client, job_id, jsonl=jsonl)
    events = client.pages(f"jobs/{job_id}/events", order="asc", level=level)
    if jsonl:
        print_jsonl(events)
    elif as_json:
        print_json(list(events))
    else:
        for event in events:
            click.echo(f"{moment(event['time'])}  {event['level']:<5}  {legible(event['message'])}")
    suggest(next_of(client.get(f"jobs/{job_id}")))
    return Exit.OK


def attached(client: Client, job_id: str, *, jsonl: bool) -> Exit:
    """Show a job until it ends, or print its stream; return its exit code."""
    if not jsonl:
        return report_end(follow(client, job_id))
    with detachable(job_id):
        print_jsonl(follow_stream(client, job_id))
    return ENDS[await_end(client, job_id)["status"]]


@click.command(short_help="Show the metrics of every step.")
@click.argument("job_id", shell_complete=JOB)
@click.option("--split", type=click.Choice(["train", "eval"]), help="Only training or evaluation metrics.")
@_jsonl
@rows_options
def metrics(job_id: str, split: str | None, jsonl: bool, as_json: bool) -> None:
    """Show the metrics of every step."""
    client = Client()
    job_id = client.whole_id("job", job_id)
    # The cursor of this list is the step, so each split is paged by itself.
    splits = [split] if split else ["train", "eval"]
    pages = (row for name in splits for row in client.pages(f"jobs/{job_id}/metrics", split=name))
    rows: list[dict[str, Any]] = sorted(pages, key=lambda row: row["step"])
    if jsonl:
        print_jsonl(rows)
    else:
        print_rows(rows, _METRIC_COLUMNS, as_json=as_json, quiet=False)
    suggest(f"trainyard jobs show {job_id}")


@click.command(short_help="Wait until a job ends.")
@click.argument("job_id", shell_complete=JOB)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=math.inf,
    help="Give up after this many seconds with exit code 7.",
)
@format_options
def wait(job_id: str, timeout_s: float, as_json: bool, quiet: bool) -> int:
    """Wait until a job ends. Exit codes: 0 succeeded, 5 failed, 6 cancelled, 7 timed out."""
    client = Client()
    job = await_end(client, client.whole_id("job", job_id), timeout_s)
    if as_json or quiet:
        print_fields(job, (), as_json=as_json, quiet=quiet)
    return report_end(job)
