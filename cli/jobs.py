"""`trainyard jobs`: make, watch and stop jobs."""

import sys
from typing import Any

import click

from cli.client import DESTRUCTIVE_FEWEST, Client
from cli.errors import Exit
from cli.follow import ENDS, await_end, follow, tell_end
from cli.output import (
    Column,
    duration,
    format_options,
    moment,
    plain,
    print_fields,
    print_json,
    print_jsonl,
    print_rows,
    say,
)
from cli.plan import foretold, tell_plan
from cli.spec import TEMPLATES, load_spec, override, upload_paths
from cli.stream import follow_stream
from cli.tokens import tokens


def _step(row: dict[str, Any]) -> str:
    return f"{row['step'] or 0}/{row['total_steps']}" if row.get("total_steps") else ""


def _error(row: dict[str, Any]) -> str:
    error = row.get("error")
    return f"{error['class']}, {error['code']}: {error['message']} {error['mend']}" if error else ""


def _figures(values: dict[str, Any] | None) -> str:
    return "  ".join(f"{name} {plain(value)}" for name, value in (values or {}).items() if value is not None)


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
_FIELDS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("kind", lambda row: row["kind"]),
    ("status", lambda row: row["status"]),
    ("waiting for", lambda row: row.get("waiting_reason")),
    ("place in queue", lambda row: row.get("queue_position")),
    ("starts about", lambda row: moment(row.get("estimated_start_at"))),
    ("base", lambda row: f"{row['base']['name']}/{row['base']['version']}" if row.get("base") else ""),
    ("attempt", lambda row: row.get("attempt")),
    ("step", _step),
    ("latest", lambda row: _figures(row.get("progress"))),
    ("result", lambda row: _figures((row.get("result") or {}).get("metrics"))),
    ("made", _made),
    ("foretold", foretold),
    ("row by row", lambda row: ", ".join(row.get("result_files") or [])),
    ("error", _error),
    ("created", lambda row: moment(row["created_at"])),
    ("started", lambda row: moment(row["started_at"])),
    ("finished", lambda row: moment(row["finished_at"])),
]
_METRIC_COLUMNS: list[Column] = [
    ("step", lambda row: row["step"]),
    ("split", lambda row: row["split"]),
    ("loss", lambda row: row["values"].get("loss", row["values"].get("eval_loss"))),
    ("learning rate", lambda row: row["values"].get("learning_rate")),
    ("grad norm", lambda row: row["values"].get("grad_norm")),
    ("tok/s", lambda row: row["values"].get("tokens_per_s")),
    ("mfu", lambda row: row["values"].get("mfu")),
]

_ROW_COLUMNS: list[Column] = [
    ("file", lambda row: row["file"]),
    ("line", lambda row: row["line"]),
    ("loss", lambda row: row["loss"]),
    ("labels", lambda row: row["labels"]),
]


_set = click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change a field: --set seed=7")


@click.group()
def jobs() -> None:
    """Jobs: pretrain, sft, dpo, eval."""


jobs.add_command(tokens)


@jobs.command()
@click.argument("kind", type=click.Choice(list(TEMPLATES)))
def init(kind: str) -> None:
    """Print a commented spec to start from: `trainyard jobs init sft > job.yaml`."""
    click.echo(TEMPLATES[kind], nl=False)
    if sys.stdout.isatty():
        say(f"  next: trainyard jobs init {kind} > job.yaml, edit it, trainyard jobs create -f job.yaml --follow")


@jobs.command()
@click.option("-f", "--file", "path", help="The spec, YAML or JSON; - reads stdin.")
@click.option("--plan", "plan_id", help="A plan of a dry run instead: the job follows it to the row.")
@_set
@click.option("--dry-run", is_flag=True, help="Make no job: tell what it would come to.")
@click.option("--follow", "attach", is_flag=True, help="Watch it until it ends; the exit code tells how.")
@format_options
def create(
    path: str | None,
    plan_id: str | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    attach: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Make a job. Data files that the spec names by path (relative to it) are checked and uploaded."""
    if (path is None) == (plan_id is None):
        raise click.UsageError("Give a spec with -f, or a plan with --plan.")
    if plan_id is not None and (assignments or dry_run):
        raise click.UsageError("A plan is made as it is; change or dry-run the spec, with -f, and take its new plan.")
    client = Client()
    body = {"plan_id": plan_id} if path is None else _spec_at(client, path, assignments)
    if dry_run:
        tell_plan(client, body, as_json=as_json, quiet=quiet)
        return Exit.OK
    job = client.post("jobs", body)
    if not attach:
        print_fields(job, _FIELDS, as_json=as_json, quiet=quiet)
        say(f"  next: trainyard jobs logs -f {job['id']}")
        return Exit.OK
    say(f"{job['id']} {job['status']}" + (f": {job['waiting_reason']}" if job["waiting_reason"] else ""))
    job = follow(client, job["id"])
    print_fields(job, _FIELDS, as_json=as_json, quiet=quiet)
    return tell_end(job)


def _spec_at(client: Client, path: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    """The spec in a file, changed as asked, its data uploaded."""
    spec, folder = load_spec(path)
    override(spec, assignments)
    upload_paths(client, spec, folder)
    return spec


@jobs.command("dry-run")
@click.option("-f", "--file", "path", required=True, help="The spec, YAML or JSON; - reads stdin.")
@_set
@format_options
def dry_run(path: str, assignments: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Tell what a job would come to: steps, tokens, memory, time and cost; `jobs create --plan` then makes just it."""
    client = Client()
    tell_plan(client, _spec_at(client, path, assignments), as_json=as_json, quiet=quiet)


@jobs.command("ls")
@click.option("--kind")
@click.option("--status")
@click.option("--limit", default=50, show_default=True)
@format_options
def list_jobs(kind: str | None, status: str | None, limit: int, as_json: bool, quiet: bool) -> None:
    """List jobs, newest first."""
    rows = Client().pages("jobs", limit, kind=kind, status=status)
    print_rows(rows, _COLUMNS, as_json=as_json, quiet=quiet)


@jobs.command()
@click.argument("job_id")
@format_options
def show(job_id: str, as_json: bool, quiet: bool) -> None:
    """Show one job; --json has the resolved spec too."""
    client = Client()
    job = client.get(f"jobs/{client.whole_id('job', job_id)}")
    print_fields(job, _FIELDS, as_json=as_json, quiet=quiet)


@jobs.command()
@click.argument("job_id")
@click.option("-f", "--follow", "attach", is_flag=True, help="Show it live until it ends.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line, with -f the whole stream.")
@click.option("--level", type=click.Choice(["info", "warn", "error"]), help="Of this level only.")
def logs(job_id: str, attach: bool, jsonl: bool, level: str | None) -> int:
    """What a job said, oldest first."""
    client = Client()
    job_id = client.whole_id("job", job_id)
    if attach and jsonl:
        print_jsonl(follow_stream(client, job_id))
        return ENDS[client.get(f"jobs/{job_id}")["status"]]
    if attach:
        return tell_end(follow(client, job_id))
    rows = client.pages(f"jobs/{job_id}/events", order="asc", level=level)
    if jsonl:
        print_jsonl(rows)
        return Exit.OK
    for row in rows:
        click.echo(f"{moment(row['time'])}  {row['level']:<5}  {row['message']}")
    return Exit.OK


@jobs.command()
@click.argument("job_id")
@click.option("--split", type=click.Choice(["train", "eval"]))
@click.option("--jsonl", is_flag=True, help="One JSON object a line.")
@format_options
def metrics(job_id: str, split: str | None, jsonl: bool, as_json: bool, quiet: bool) -> None:
    """The figures of every step."""
    del quiet
    client = Client()
    address = f"jobs/{client.whole_id('job', job_id)}/metrics"
    # The cursor of this list is the step, so each split is paged by itself.
    splits = [split] if split else ["train", "eval"]
    rows = sorted((row for name in splits for row in client.pages(address, split=name)), key=lambda row: row["step"])
    if jsonl:
        print_jsonl(rows)
    else:
        print_rows(rows, _METRIC_COLUMNS, as_json=as_json, quiet=False)


@jobs.command()
@click.argument("job_id")
@click.argument("step", type=click.IntRange(min=1))
@format_options
def rows(job_id: str, step: int, as_json: bool, quiet: bool) -> None:
    """The rows of one step and what each lost, the most first; known from the next checkpoint on."""
    del quiet
    client = Client()
    told = client.get(f"jobs/{client.whole_id('job', job_id)}/steps/{step}/rows")["data"]
    print_rows(told, _ROW_COLUMNS, as_json=as_json, quiet=False)


@jobs.command()
@click.argument("job_id")
@click.option("--timeout", "timeout_s", type=float, help="Give up after this many seconds, exit code 7.")
def wait(job_id: str, timeout_s: float | None) -> int:
    """Wait until a job ends. The exit code tells how: 0 succeeded, 5 failed, 6 cancelled, 7 timed out."""
    client = Client()
    job_id = client.whole_id("job", job_id)
    return tell_end(await_end(client, job_id, timeout_s))


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs. A queued one ends at once, a running one at its next heartbeat; checkpoints stay."""
    client = Client()
    for given in job_ids:
        job = client.post(f"jobs/{client.whole_id('job', given, fewest=DESTRUCTIVE_FEWEST)}/cancel")
        if as_json:
            print_json(job)
        else:
            click.echo(job["id"])
        if job["status"] not in ENDS:
            say(f"  cancel requested; next: trainyard jobs wait {job['id']}")


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def pause(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Pause jobs: each saves a checkpoint and frees its worker, until it is resumed."""
    _order("pause", job_ids, as_json)


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def resume(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Let paused jobs go on from their checkpoints, on any worker."""
    _order("resume", job_ids, as_json)


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def retry(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Try failed jobs again, from their newest checkpoints."""
    _order("retry", job_ids, as_json)


def _order(verb: str, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Ask something of each job and show how it stands then."""
    client = Client()
    for given in job_ids:
        job = client.post(f"jobs/{client.whole_id('job', given, fewest=DESTRUCTIVE_FEWEST)}/{verb}")
        if as_json:
            print_json(job)
        else:
            click.echo(job["id"])
            say(f"  {job['status']}" + (f": {job['waiting_reason']}" if job["waiting_reason"] else ""))
