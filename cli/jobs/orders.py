"""The commands `trainyard jobs cancel`, `pause`, `resume` and `retry`."""

from collections.abc import Iterator

import click

from cli.client import DESTRUCTIVE_FEWEST, Client
from cli.completion import JOB
from cli.jobs.listing import next_of
from cli.output import Row, format_options, print_done, say, suggest

_jobs = click.argument("job_ids", nargs=-1, required=True, shell_complete=JOB)


@click.command(short_help="Cancel jobs; their checkpoints stay.")
@_jobs
@format_options
def cancel(job_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Cancel jobs. A queued one ends at once, a running one at its next heartbeat; checkpoints stay."""
    _order("cancel", job_ids, as_json, quiet)


@click.command(short_help="Save a checkpoint and free the worker.")
@_jobs
@format_options
def pause(job_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Pause jobs: each saves a checkpoint and frees its worker until it is resumed."""
    _order("pause", job_ids, as_json, quiet)


@click.command(short_help="Resume paused jobs.")
@_jobs
@format_options
def resume(job_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Resume paused jobs from their checkpoints, on any worker."""
    _order("resume", job_ids, as_json, quiet)


@click.command(short_help="Retry failed jobs.")
@_jobs
@format_options
def retry(job_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Retry failed jobs from their newest checkpoints."""
    _order("retry", job_ids, as_json, quiet)


def _order(verb: str, job_ids: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Apply a verb to each job and show its status afterwards."""
    client = Client()
    changed: list[Row] = []

    def done() -> Iterator[tuple[str, Row]]:
        for given in job_ids:
            job = client.post(f"jobs/{client.whole_id('job', given, fewest=DESTRUCTIVE_FEWEST)}/{verb}")
            changed.append(job)
            yield job["id"], job
            if not quiet:
                say(f"  {job['status']}" + (f": {job['waiting_reason']}" if job["waiting_reason"] else ""))

    print_done(done(), asked=len(job_ids), as_json=as_json)
    waits = verb in {"cancel", "pause"} and changed[-1]["status"] not in {"cancelled", "paused"}
    suggest(
        f"trainyard jobs {'wait' if verb == 'cancel' else 'show'} {changed[-1]['id']}"
        if waits
        else next_of(changed[-1])
    )
