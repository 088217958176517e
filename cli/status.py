"""`trainyard status`: the processes, and what is in the queue."""

import time
from typing import Any, NamedTuple

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
    ("heard of", lambda row: f"{duration(max(0.0, time.time() - row['heartbeat_at']))} ago"),
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
    work, amiss = _work() if state["ready"] else (_NO_WORK, None)
    if as_json:
        print_json(
            {"url": state["url"], "home": str(home), "ready": state["ready"], "processes": rows, **work._asdict()}
        )
        return
    print_rows(rows, _COLUMNS, as_json=False, quiet=False)
    for told, columns in ((work.workers, _WORKER_COLUMNS), (work.waiting, _WAITING_COLUMNS)):
        if told:
            print_rows(told, columns, as_json=False, quiet=False)
    say(f"{state['url']}  {'ready' if state['ready'] else 'starting'}  home {home}")
    if work.queue:
        say("  jobs: " + ", ".join(f"{count} {name}" for name, count in work.queue.items()))
    if amiss:
        say(f"  {amiss}")
    suggest("trainyard jobs ls")


def _with_uptime(row: dict[str, Any]) -> dict[str, Any]:
    started = row["started_at"]
    uptime_s = None if started is None else time.time() - started
    return {"name": row["name"], "pid": row["pid"], "uptime_s": uptime_s, "restarts": row["restarts"]}


class Work(NamedTuple):
    """What the API tells: jobs by state, the workers, and the jobs that wait."""

    queue: dict[str, str]
    workers: list[dict[str, Any]]
    waiting: list[dict[str, Any]]


_NO_WORK = Work({}, [], [])


def _work() -> tuple[Work, str | None]:
    """The same, or why it cannot be told: the processes are shown all the same."""
    try:
        client = Client()
        counts = {name: _count(client, name) for name in _COUNTED}
        return Work(counts, client.get("workers")["data"], client.get("queue")["data"]), None
    except CommandError as error:
        return _NO_WORK, error.message


def _count(client: Client, state: str) -> str:
    page = client.get("jobs", status=state, limit=_COUNT_LIMIT)
    return f"{len(page['data'])}" + ("+" if page["has_more"] else "")
