"""The command `trainyard jobs clone`: submit the spec of a job again, changed or not."""

from pathlib import Path
from typing import Any

import click
import yaml

from cli.client import Client
from cli.completion import JOB
from cli.errors import CommandError, Exit
from cli.jobs.create import follow_option, jsonl_option, require_shown_one_way, set_option, submit
from cli.jobs.plan import show_plan
from cli.jobs.spec import override, upload_paths
from cli.output import format_options, print_json, suggest


@click.command(short_help="Submit a job's spec again, changed or not.")
@click.argument("job_id", shell_complete=JOB)
@set_option
@click.option("--print", "only_print", is_flag=True, help="Print the spec instead of creating a job.")
@click.option("--dry-run", is_flag=True, help="Plan the job instead of creating it.")
@follow_option
@jsonl_option
@format_options
def clone(
    job_id: str,
    assignments: tuple[str, ...],
    only_print: bool,
    dry_run: bool,
    attach: bool,
    jsonl: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Create a job with the spec of another. Values left to a default or to `auto` there are left to it again."""
    require_shown_one_way(attach=attach, jsonl=jsonl, as_json=as_json, quiet=quiet)
    client = Client()
    job_id = client.whole_id("job", job_id)
    config = client.get(f"jobs/{job_id}/config")
    if not config["origins"]:
        raise CommandError(
            f"The service no longer accepts the spec of {job_id} as it is.",
            Exit.INVALID,
            f"`trainyard jobs show {job_id} --json` shows it, to write a new one from.",
        )
    spec = asked_for(config)
    override(spec, assignments)
    if only_print:
        print_json(spec) if as_json else click.echo(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), nl=False)
        suggest(f"trainyard jobs clone {job_id} --print > job.yaml", "edit it, then trainyard jobs create -f job.yaml")
        return Exit.OK
    upload_paths(client, spec, Path.cwd())
    if dry_run:
        show_plan(client, spec, as_json=as_json, quiet=quiet)
        return Exit.OK
    return submit(client, spec, attach=attach, jsonl=jsonl, as_json=as_json, quiet=quiet)


def asked_for(config: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a job's config that were set explicitly."""
    return _set_in(config["spec"], config["origins"])


def _set_in(part: dict[str, Any], origins: dict[str, str], before: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, dict) and value:
            inner = _set_in(value, origins, f"{before}{name}.")
            if inner:
                kept[name] = inner
        elif origins.get(before + name) == "set":
            kept[name] = value
    return kept
