"""The commands `promote`, `rollback` and `aliases`: which version of a model or adapter NAME@ALIAS means."""

from typing import Any
from urllib.parse import quote

import click

from cli.client import Client
from cli.completion import ALIAS, WEIGHTS
from cli.output import Column, format_options, moment, print_fields, print_rows, suggest


def _address_of(alias: str) -> str:
    return f"aliases/{quote(alias, safe='@')}"


def _compared(turn: dict[str, Any]) -> str:
    rows = [
        f"{row['metric']} {row['difference']:+.4g} ({row['low']:+.4g} to {row['high']:+.4g}) against {row['rival']}"
        for row in turn["comparisons"]
    ]
    return "; ".join(rows)


_TURN: list[Column] = [
    ("turn", lambda row: row["number"]),
    ("means", lambda row: row["model"]),
    ("since", lambda row: moment(row["created_at"])),
    ("back to", lambda row: row["back_to"]),
    ("forced", lambda row: "yes" if row["forced"] else None),
    ("by", lambda row: row["key_id"]),
    ("compared", _compared),
]
_ALIAS: list[Column] = [
    ("alias", lambda row: row["id"]),
    *((name, lambda row, read=read: read(row["turn"])) for name, read in _TURN[1:]),
]


@click.command(short_help="Make an alias mean this version.")
@click.argument("reference", shell_complete=WEIGHTS)
@click.option("--to", "alias", required=True, metavar="ALIAS", help="production: NAME@production means this version.")
@click.option("--metric", help="The metric that decides; default: the first one of the evaluations.")
@click.option("--force", is_flag=True, help="Ignore the evaluations; needs an admin's key and is logged.")
@format_options
def promote(reference: str, alias: str, metric: str | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Make an alias mean this version, if evaluations find it no worse than its base and the alias's current version."""
    client = Client()
    body = {"model": client.whole(reference), "alias": alias, "metric": metric, "force": force}
    row = client.post("aliases", {name: value for name, value in body.items() if value is not None})
    print_fields(row, _ALIAS, as_json=as_json, quiet=quiet)
    suggest(f"trainyard chat {row['id']}")


@click.command(short_help="Return an alias to its previous version.")
@click.argument("alias", metavar="NAME@ALIAS", shell_complete=ALIAS)
@format_options
def rollback(alias: str, as_json: bool, quiet: bool) -> None:
    """Return an alias to the version that it meant before."""
    row = Client().post(f"{_address_of(alias)}/rollback")
    print_fields(row, _ALIAS, as_json=as_json, quiet=quiet)


@click.command(short_help="List aliases, or one alias's history.")
@click.argument("alias", metavar="[NAME@ALIAS]", required=False, shell_complete=ALIAS)
@format_options
def aliases(alias: str | None, as_json: bool, quiet: bool) -> None:
    """List the version that each alias means, or every version that one alias has meant."""
    client = Client()
    if alias is None:
        print_rows(list(client.pages("aliases")), _ALIAS, as_json=as_json, quiet=quiet)
    else:
        rows = [{"id": row["number"], **row} for row in client.get(_address_of(alias))["history"]]
        print_rows(rows, _TURN, as_json=as_json, quiet=quiet)
