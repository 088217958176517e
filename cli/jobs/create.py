"""The commands `trainyard jobs init`, `create` and `dry-run`."""

import sys
from typing import Any

import click

from cli.client import Client
from cli.completion import PLAN
from cli.errors import Exit
from cli.jobs.follow import follow, report_end, report_status
from cli.jobs.listing import FIELDS
from cli.jobs.plan import show_plan
from cli.jobs.spec import TEMPLATES, load_spec, override, upload_paths
from cli.jobs.watch import attached
from cli.output import format_options, print_fields, suggest

set_option = click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Set a field of the spec: --set seed=7"
)
follow_option = click.option(
    "--follow", "attach", is_flag=True, help="Follow it to its end; the exit code is its outcome."
)
jsonl_option = click.option("--jsonl", is_flag=True, help="With --follow: print its stream, one JSON object per line.")
_spec_file = click.Path(allow_dash=True, dir_okay=False)


@click.command(short_help="Print a commented spec to start from.")
@click.argument("kind", type=click.Choice(list(TEMPLATES)))
def init(kind: str) -> None:
    """Print a commented spec to start from: `trainyard jobs init sft > job.yaml`."""
    click.echo(TEMPLATES[kind], nl=False)
    if sys.stdout.isatty():
        suggest(f"trainyard jobs init {kind} > job.yaml", "edit it, then trainyard jobs create -f job.yaml --follow")
    else:
        suggest("trainyard jobs create -f job.yaml --dry-run")


@click.command(short_help="Create a job from a spec or a plan.")
@click.option("-f", "--file", "path", type=_spec_file, help="The spec, YAML or JSON; - reads stdin.")
@click.option("--plan", "plan_id", help="The id of a plan, which the job follows exactly.", shell_complete=PLAN)
@set_option
@click.option("--dry-run", is_flag=True, help="Plan the job instead of creating it.")
@follow_option
@jsonl_option
@format_options
def create(
    path: str | None,
    plan_id: str | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    attach: bool,
    jsonl: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Create a job. Data files that the spec names by path (relative to it) are checked and uploaded."""
    if (path is None) == (plan_id is None):
        raise click.UsageError("Give a spec with -f, or a plan with --plan.")
    if plan_id is not None and (assignments or dry_run):
        raise click.UsageError("A plan is followed as it is; change or dry-run the spec with -f, and use its new plan.")
    require_shown_one_way(attach=attach, jsonl=jsonl, as_json=as_json, quiet=quiet)
    client = Client()
    body = {"plan_id": client.whole_id("plan", str(plan_id))} if path is None else _spec_at(client, path, assignments)
    if dry_run:
        show_plan(client, body, as_json=as_json, quiet=quiet)
        return Exit.OK
    return submit(client, body, attach=attach, jsonl=jsonl, as_json=as_json, quiet=quiet)


def require_shown_one_way(*, attach: bool, jsonl: bool, as_json: bool, quiet: bool) -> None:
    """Check the output options, before anything is uploaded.

    Raises:
        UsageError: --jsonl is given without --follow, or together with another format.
    """
    if jsonl and (as_json or quiet or not attach):
        raise click.UsageError("--jsonl prints the stream of --follow and cannot be combined with --json or -q.")


def submit(
    client: Client, body: dict[str, Any], *, attach: bool, jsonl: bool = False, as_json: bool, quiet: bool
) -> Exit:
    """Create a job and show it: at once, or followed to its end."""
    job = client.post("jobs", body)
    if not attach:
        print_fields(job, FIELDS, as_json=as_json, quiet=quiet)
        suggest(f"trainyard jobs logs -f {job['id']}")
        return Exit.OK
    report_status(job)
    if jsonl:
        return attached(client, job["id"], jsonl=True)
    job = follow(client, job["id"])
    print_fields(job, FIELDS, as_json=as_json, quiet=quiet)
    return report_end(job)


def _spec_at(client: Client, path: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    """Load a spec, apply --set, and upload the data files that it names."""
    spec, folder = load_spec(path)
    override(spec, assignments)
    upload_paths(client, spec, folder)
    return spec


@click.command("dry-run", short_help="Plan a job: steps, memory, time and cost.")
@click.option("-f", "--file", "path", type=_spec_file, required=True, help="The spec, YAML or JSON; - reads stdin.")
@set_option
@format_options
def dry_run(path: str, assignments: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Plan a job: steps, tokens, memory, time and cost. `jobs create --plan` then creates exactly that job."""
    client = Client()
    show_plan(client, _spec_at(client, path, assignments), as_json=as_json, quiet=quiet)
