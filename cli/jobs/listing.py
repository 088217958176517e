"""The commands `trainyard jobs ls` and `show`, and the columns and fields of a job."""

from typing import Any

import click

from cli.client import Client
from cli.completion import JOB
from cli.jobs.plan import planned
from cli.jobs.spec import TEMPLATES
from cli.output import Column, duration, format_options, moment, plain, print_fields, print_rows, suggest

STATES = ("queued", "preparing", "running", "pausing", "paused", "succeeded", "failed", "cancelled")


def _step(row: dict[str, Any]) -> str:
    return f"{row['step'] or 0}/{row['total_steps']}" if row.get("total_steps") else ""


def _error(row: dict[str, Any]) -> str:
    error = row.get("error")
    return f"{error['class']}, {error['code']}: {error['message']} {error['mend']}" if error else ""


def _figures(values: dict[str, Any] | None) -> str:
    return "  ".join(f"{name} {plain(value)}" for name, value in (values or {}).items() if value is not None)


def _base(row: dict[str, Any]) -> str:
    """Return the name of the base, or its id where it is a checkpoint, which has no name."""
    base = row.get("base")
    if not base:
        return ""
    return base["id"] if base["name"] is None else f"{base['name']}/{base['version']}"


def _made(row: dict[str, Any]) -> str:
    return ", ".join(f"{made['name']}/{made['version']}" for made in row.get("artifacts") or [] if made.get("name"))


_COLUMNS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("kind", lambda row: row["kind"]),
    ("status", lambda row: row["status"]),
    ("step", _step),
    ("loss", lambda row: (row.get("progress") or {}).get("loss")),
    ("ETA", lambda row: duration(row.get("eta_s"))),
    ("made", _made),
    ("created", lambda row: moment(row["created_at"])),
]
FIELDS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("kind", lambda row: row["kind"]),
    ("status", lambda row: row["status"]),
    ("waiting for", lambda row: row.get("waiting_reason")),
    ("place in queue", lambda row: row.get("queue_position")),
    ("starts about", lambda row: moment(row.get("estimated_start_at"))),
    ("base", _base),
    ("attempt", lambda row: row.get("attempt")),
    ("step", _step),
    ("latest", lambda row: _figures(row.get("progress"))),
    ("result", lambda row: _figures((row.get("result") or {}).get("metrics"))),
    ("made", _made),
    ("planned", planned),
    ("files", lambda row: ", ".join(row.get("result_files") or [])),
    ("error", _error),
    ("created", lambda row: moment(row["created_at"])),
    ("started", lambda row: moment(row["started_at"])),
    ("finished", lambda row: moment(row["finished_at"])),
]


@click.command("ls", short_help="List jobs, newest first.")
@click.option("--kind", type=click.Choice(list(TEMPLATES)), help="Only jobs of this kind.")
@click.option("--status", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most rows to list.")
@format_options
def list_jobs(kind: str | None, status: str | None, limit: int, as_json: bool, quiet: bool) -> None:
    """List jobs, newest first."""
    rows = list(Client().pages("jobs", limit, kind=kind, status=status))
    print_rows(rows, _COLUMNS, as_json=as_json, quiet=quiet)
    suggest(f"trainyard jobs show {rows[0]['id']}" if rows else "trainyard jobs init sft > job.yaml")


@click.command(short_help="Show one job.")
@click.argument("job_id", shell_complete=JOB)
@format_options
def show(job_id: str, as_json: bool, quiet: bool) -> None:
    """Show one job; --json includes the resolved spec."""
    client = Client()
    job = client.get(f"jobs/{client.whole_id('job', job_id)}")
    print_fields(job, FIELDS, as_json=as_json, quiet=quiet)
    suggest(next_of(job))


def next_of(job: dict[str, Any]) -> str:
    """Return the command to suggest after showing this job."""
    made = next((made for made in job.get("artifacts") or [] if made["kind"] in {"model", "adapter"}), None)
    if job["status"] == "failed":
        return f"trainyard jobs logs {job['id']}"
    if job["status"] == "paused":
        return f"trainyard jobs resume {job['id']}"
    if job["status"] == "succeeded" and made:
        return f"trainyard {made['kind']}s pull {made['name']}/{made['version']} -o ./{made['name']}"
    if job["status"] == "succeeded" and job["kind"] == "eval":
        return f"trainyard evals show {job['id']}"
    if job["status"] in {"succeeded", "cancelled"}:
        return f"trainyard jobs clone {job['id']} --print"
    return f"trainyard jobs logs -f {job['id']}"
