"""`trainyard spend`: worker time and cost by day, key, kind or project."""

from datetime import datetime
from typing import Any

import click

from cli.client import Client
from cli.completion import KEY
from cli.jobs.spec import TEMPLATES
from cli.output import Column, counted, duration, print_json, print_rows, rows_options, say, suggest

GROUPS = ("day", "key", "kind", "project")
_DATE = click.DateTime(["%Y-%m-%d"])


def _cost(cost: float | None) -> str | None:
    return None if cost is None else f"{cost:.2f}"


def _columns(by: str) -> list[Column]:
    return [
        (by, lambda row: row["of"] or "unknown"),
        ("worker time", lambda row: duration(row["worker_s"])),
        ("attempts", lambda row: row["attempts"]),
        ("cost", lambda row: _cost(row["cost"])),
    ]


@click.command(short_help="Show worker time and cost used so far.")
@click.option("--by", type=click.Choice(GROUPS), default="day", show_default=True, help="What each row is about.")
@click.option("--since", type=_DATE, metavar="DATE", help="First day, in UTC; default: the first of this month.")
@click.option("--until", type=_DATE, metavar="DATE", help="Last day, in UTC; default: today.")
@click.option("--key", "key_id", metavar="ID", help="Only this key's use.", shell_complete=KEY)
@click.option("--kind", type=click.Choice(list(TEMPLATES)), help="Only jobs of this kind.")
@click.option("--project", "project_id", metavar="ID", help="Only this project; an operator's key sees all.")
@rows_options
def spend(
    by: str,
    since: datetime | None,
    until: datetime | None,
    key_id: str | None,
    kind: str | None,
    project_id: str | None,
    as_json: bool,
) -> None:
    """Show the worker time of attempts that have ended, and its cost at today's price."""
    client = Client()
    asked: dict[str, Any] = {
        "by": by,
        "since": since and since.date().isoformat(),
        "until": until and until.date().isoformat(),
        "key_id": None if key_id is None else client.whole_id("key", key_id),
        "kind": kind,
        "project_id": project_id,
    }
    report = client.get("spend", **asked)
    if as_json:
        print_json(report)
    else:
        print_rows(report["data"], _columns(by), as_json=False, quiet=False)
    cost = "" if report["cost"] is None else f", {report['cost']:.2f} {report['currency']}"
    attempts = counted(report["attempts"], "attempt")
    say(f"  {report['since']} to {report['until']}: {duration(report['worker_s'])} of workers, {attempts}{cost}")
    suggest("trainyard keys ls" if by == "key" else "trainyard spend --by key")
