"""The command `trainyard jobs compare`: differences between the specs and the results of jobs."""

import json
from collections.abc import Iterator
from typing import Any

import click

from cli.client import Client
from cli.completion import JOB
from cli.errors import CommandError, Exit
from cli.output import Column, print_json, print_rows, rows_options, suggest

Job = dict[str, Any]


@click.command(short_help="Compare the specs and results of jobs.")
@click.argument("job_ids", nargs=-1, required=True, shell_complete=JOB)
@rows_options
def compare(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Compare jobs with the first of them: their figures, and the values of their specs that differ."""
    client = Client()
    found = list(dict.fromkeys(client.whole_id("job", given) for given in job_ids))
    if len(found) < 2:
        raise CommandError("Give at least two jobs.", Exit.USAGE, "`trainyard jobs ls`")
    jobs = [client.get(f"jobs/{job_id}") for job_id in found]
    rows = [*outcomes(jobs), *differences(jobs)]
    if as_json:
        print_json({"jobs": found, "rows": rows})
    else:
        columns: list[Column] = [("", lambda row: row["name"])]
        columns += [(job_id, lambda row, at=at: row["values"][at]) for at, job_id in enumerate(found)]
        print_rows(rows, columns, as_json=False, quiet=False)
    suggest(f"trainyard jobs clone {found[0]} --set NAME=VALUE")


def outcomes(jobs: list[Job]) -> list[dict[str, Any]]:
    """Return rows of status and figures; those of results also as differences from the first job's."""
    named = [("status", [job["status"] for job in jobs]), ("step", [job["step"] for job in jobs])]
    named.append(("loss", [job["progress"].get("loss") for job in jobs]))
    results = [(job["result"] or {}).get("metrics") or {} for job in jobs]
    for name in dict.fromkeys(name for result in results for name in result):
        values = [result.get(name) for result in results]
        named.append((f"result.{name}", values))
        if values[0] is not None:
            named.append(
                (f"result.{name}, against the first", [None, *(_minus(value, values[0]) for value in values[1:])])
            )
    return [{"name": name, "values": values} for name, values in named if any(value is not None for value in values)]


def _minus(value: float | None, first: float) -> float | None:
    return None if value is None else value - first


def differences(jobs: list[Job]) -> list[dict[str, Any]]:
    """Return the values of the specs that differ; None where a spec has no such value."""
    flat = [dict(_leaves(job["spec"])) for job in jobs]
    rows = [
        {"name": path, "values": [leaf.get(path) for leaf in flat]}
        for path in dict.fromkeys(p for f in flat for p in f)
    ]
    return [row for row in rows if len({json.dumps(value, sort_keys=True) for value in row["values"]}) > 1]


def _leaves(part: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name, value
