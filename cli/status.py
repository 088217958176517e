"""`trainyard status`: the processes, and what is in the queue."""

import sys
import time
from typing import Any

import click

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.home import supervisor_pid
from cli.output import Column, duration, print_json, print_rows, say
from cli.place import home_dir, service_state

_COLUMNS: list[Column] = [
    ("process", lambda row: row["name"]),
    ("pid", lambda row: row["pid"] or "restarting"),
    ("uptime", lambda row: duration(row["uptime_s"])),
    ("restarts", lambda row: row["restarts"]),
]
_COUNTED = ("running", "preparing", "queued", "pausing", "paused")
_COUNT_LIMIT = 100


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the processes of the service and its queue. Exit code 69 when it does not run."""
    home = home_dir()
    pid = supervisor_pid(home)
    state = service_state(home)
    if pid is None or state is None:
        raise CommandError(f"Nothing runs from {home}.", Exit.UNREACHABLE, "`trainyard up` starts it.")
    rows = [_with_uptime(row) for row in ({**state, "name": "supervisor", "restarts": 0}, *state["processes"])]
    queue, amiss = _queue() if state["ready"] else ({}, None)
    if as_json:
        print_json({"url": state["url"], "home": str(home), "ready": state["ready"], "processes": rows, "queue": queue})
        return
    print_rows(rows, _COLUMNS, as_json=False, quiet=False)
    say(f"{state['url']}  {'ready' if state['ready'] else 'starting'}  home {home}")
    if queue:
        say("  jobs: " + ", ".join(f"{count} {name}" for name, count in queue.items()))
    if amiss:
        say(f"  {amiss}")
    if sys.stdout.isatty():
        say("  next: trainyard jobs ls")


def _with_uptime(row: dict[str, Any]) -> dict[str, Any]:
    started = row["started_at"]
    uptime_s = None if started is None else time.time() - started
    return {"name": row["name"], "pid": row["pid"], "uptime_s": uptime_s, "restarts": row["restarts"]}


def _queue() -> tuple[dict[str, str], str | None]:
    """Jobs by state, or why they cannot be told: the processes are shown all the same."""
    try:
        client = Client()
        return {name: _count(client, name) for name in _COUNTED}, None
    except CommandError as error:
        return {}, error.message


def _count(client: Client, state: str) -> str:
    page = client.get("jobs", status=state, limit=_COUNT_LIMIT)
    return f"{len(page['data'])}" + ("+" if page["has_more"] else "")
