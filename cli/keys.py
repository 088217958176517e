"""`trainyard keys`: the API keys of a project and their budgets."""

import math
from collections.abc import Iterator
from typing import Any

import click

from cli.client import DESTRUCTIVE_FEWEST, Client
from cli.completion import KEY
from cli.output import (
    Column,
    Row,
    duration,
    format_options,
    moment,
    print_done,
    print_fields,
    print_json,
    print_rows,
    rows_options,
    say,
    size,
    suggest,
)

SCOPES = ("read", "write", "admin")
_DAY_S = 86_400
_COLUMNS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("name", lambda row: row["name"]),
    ("scope", lambda row: row["scope"]),
    ("begins with", lambda row: row["prefix"]),
    ("created", lambda row: moment(row["created_at"])),
    ("last used", lambda row: moment(row["last_used_at"])),
    ("expires", lambda row: moment(row["expires_at"])),
    ("revoked", lambda row: moment(row["revoked_at"])),
]


def _amount(name: str, shown: Any = lambda value: value) -> Any:
    """Read an amount of a budget as `used of limit`; an amount without a limit shows what is used."""

    def read(row: Row) -> str | None:
        used, limit = row["used"][name], row[name]
        if used is None:
            return None if limit is None else f"limit {shown(limit)}"
        return f"{shown(used)} used" + ("" if limit is None else f" of {shown(limit)}")

    return read


_BUDGET: list[Column] = [
    ("key", lambda row: row["owner_id"]),
    ("workers this month", _amount("worker_s", duration)),
    ("money this month", _amount("money", lambda value: f"{value:,.2f}")),
    ("jobs at a time", _amount("active_jobs")),
    ("stored", _amount("storage_bytes", size)),
]


@click.group(short_help="The project's API keys and their budgets.")
def keys() -> None:
    """List, create and revoke the API keys of the project, and limit what they may use. Needs an admin's key."""


@keys.command("ls", short_help="List keys, newest first.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most keys to list.")
@format_options
def list_keys(limit: int, as_json: bool, quiet: bool) -> None:
    """List the project's keys, revoked ones too, newest first. Tokens are not stored, so none is shown."""
    print_rows(list(Client().pages("keys", limit)), _COLUMNS, as_json=as_json, quiet=quiet)
    suggest("trainyard keys create --name NAME --scope write")


@keys.command(short_help="Create a key; its token is printed once.")
@click.option("--name", required=True, help="Who or what the key is for.")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="write",
    show_default=True,
    help="read: look; write: make and change; admin: also manage keys.",
)
@click.option("--expires-days", type=click.IntRange(1, 3650), help="Days until the key expires; default: never.")
@rows_options
def create(name: str, scope: str, expires_days: int | None, as_json: bool) -> None:
    """Create a key of the project. Its token goes to stdout and is never shown again."""
    body: dict[str, Any] = {"name": name, "scope": scope}
    if expires_days is not None:
        body["expires_after_s"] = expires_days * _DAY_S
    row = Client().post("keys", body)
    if as_json:
        print_json(row)
    else:
        say(f"{row['id']} ({row['scope']}) created; its token is shown only this once:")
        click.echo(row["token"])
    suggest(f"trainyard keys revoke {row['id']}", "when it is no longer needed")


@keys.command(short_help="Revoke keys.")
@click.argument("key_ids", nargs=-1, required=True, shell_complete=KEY)
@format_options
def revoke(key_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Revoke keys: within a second they open nothing, and neither do the sessions opened with them. They stay listed."""
    del quiet  # ids are all that is printed
    client = Client()

    def done() -> Iterator[tuple[str, Row]]:
        for given in key_ids:
            row = client.post(f"keys/{client.whole_id('key', given, fewest=DESTRUCTIVE_FEWEST)}/revoke")
            yield row["id"], row

    print_done(done(), asked=len(key_ids), as_json=as_json)
    suggest("trainyard keys ls")


@keys.command(short_help="Limit what a key may use.")
@click.argument("key_id", shell_complete=KEY)
@click.option("--worker-s", type=click.FloatRange(min=0), help="Seconds of workers in a calendar month (UTC).")
@click.option("--money", type=click.FloatRange(min=0), help="Money in a calendar month, at the operator's price.")
@click.option("--active-jobs", type=click.IntRange(min=0), help="Jobs that wait or run at any one time.")
@click.option("--storage-bytes", type=click.IntRange(min=0), help="Bytes of files and of what jobs made.")
@rows_options
def budget(key_id: str, as_json: bool, **limits: float | None) -> None:
    """Set the budget of a key; an amount that is left out is limited by the project's budget only."""
    for name, limit in limits.items():
        if limit is not None and not math.isfinite(limit):
            raise click.BadParameter(f"{limit} is not a finite number", param_hint=f"--{name.replace('_', '-')}")
    client = Client()
    row = client.ask("PUT", f"keys/{client.whole_id('key', key_id, fewest=DESTRUCTIVE_FEWEST)}/budget", json=limits)
    print_fields(row, _BUDGET, as_json=as_json, quiet=False)
    suggest(f"trainyard spend --key {row['owner_id']}")
