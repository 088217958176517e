"""The command `trainyard status`: the processes, and what is in the queue."""

import os
import time
from typing import Any

import click

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.home import supervisor_pid
from cli.output import Column, duration, moment, print_json, print_rows, say, suggest
from cli.place import home_dir, service_state

_COLUMNS: list[Column] = [
    ("process", lambda row: row["name"]),
    ("pid", lambda row: row["pid"] or "restarting"),
    ("uptime", lambda row: duration(row["uptime_s"])),
    ("restarts", lambda row: row["restarts"]),
]
_WORKER_COLUMNS: list[Column] = [
    ("worker", lambda row: row["id"]),
    ("device", lambda row: row["device"]),
    ("memory", lambda row: f"{row['memory_bytes'] / 2**30:.0f} GiB"),
    ("state", lambda row: row["state"]),
    ("job", lambda row: row["job_id"]),
    ("last seen", lambda row: f"{duration(max(0.0, time.time() - row['heartbeat_at']))} ago"),
]
_WAITING_COLUMNS: list[Column] = [
    ("place", lambda row: row["queue_position"]),
    ("waiting job", lambda row: row["id"]),
    ("kind", lambda row: row["kind"]),
    ("priority", lambda row: row["priority"]),
    ("starts about", lambda row: moment(row["estimated_start_at"])),
    ("waits for", lambda row: row["waiting_reason"]),
]
_COUNTED = ("running", "preparing", "queued", "pausing", "paused")
_LIMIT = 100
"""The most jobs that are counted in each state, and the most waiting jobs that are listed."""
_NO_WORK: dict[str, Any] = {"queue": {}, "at_least": [], "workers": [], "waiting": [], "waiting_behind": 0}


@click.command(short_help="Show processes, workers and the queue.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the processes of the local service and its queue; with TRAINYARD_URL, the queue of that service.

    The exit code is 69 if the service is not running.
    """
    seen = _remote_status() if os.environ.get("TRAINYARD_URL") else _local_status()
    if as_json:
        print_json(seen)
    else:
        _show(seen)
    if seen["amiss"]:
        say(f"  {seen['amiss']}")
    if not as_json:
        suggest("trainyard jobs ls")


def _remote_status() -> dict[str, Any]:
    """Return the state of the service at TRAINYARD_URL, whose processes are not visible from here."""
    client = Client()
    return {"url": client.url, "home": None, "ready": True, "processes": [], **_work(client), "amiss": None}


def _local_status() -> dict[str, Any]:
    """Return the state of the service of this home; its processes are included even if its API refuses.

    Raises:
        CommandError: no service runs from this home.
    """
    home = home_dir()
    pid = supervisor_pid(home)
    state = service_state(home)
    if pid is None or state is None:
        raise CommandError(f"Nothing runs from {home}.", Exit.UNREACHABLE, "`trainyard up` starts it.")
    rows = [_with_uptime(row) for row in ({**state, "name": "supervisor", "restarts": 0}, *state["processes"])]
    work, amiss = _NO_WORK, None
    if state["ready"]:
        try:
            work = _work(Client(state["url"]))
        except CommandError as error:
            amiss = f"{error.message} {error.mend or ''}".rstrip()
    return {"url": state["url"], "home": str(home), "ready": state["ready"], "processes": rows, **work, "amiss": amiss}


def _with_uptime(row: dict[str, Any]) -> dict[str, Any]:
    started = row["started_at"]
    uptime_s = None if started is None else time.time() - started
    return {"name": row["name"], "pid": row["pid"], "uptime_s": uptime_s, "restarts": row["restarts"]}


def _work(client: Client) -> dict[str, Any]:
    """Return jobs counted by state (`at_least`: states with more than counted), workers and waiting jobs."""
    pages = {state: client.get("jobs", status=state, limit=_LIMIT) for state in _COUNTED}
    waits = client.get("queue", limit=_LIMIT)
    cut = len(waits["data"]) == _LIMIT
    return {
        "queue": {state: len(page["data"]) for state, page in pages.items()},
        "at_least": [state for state, page in pages.items() if page["has_more"]],
        "workers": client.get("workers")["data"],
        "waiting": waits["data"],
        "waiting_behind": waits["waiting"] - waits["data"][-1]["queue_position"] if cut else 0,
    }


def _show(seen: dict[str, Any]) -> None:
    for name, columns in (("processes", _COLUMNS), ("workers", _WORKER_COLUMNS), ("waiting", _WAITING_COLUMNS)):
        if seen[name]:
            print_rows(seen[name], columns, as_json=False, quiet=False)
    if seen["waiting_behind"]:
        say(f"  and {seen['waiting_behind']} more behind them, counting all projects")
    home = f"  home {seen['home']}" if seen["home"] else ""
    say(f"{seen['url']}  {'ready' if seen['ready'] else 'starting'}{home}")
    if seen["queue"]:
        more = dict.fromkeys(seen["at_least"], "+")
        say("  jobs: " + ", ".join(f"{count}{more.get(state, '')} {state}" for state, count in seen["queue"].items()))
