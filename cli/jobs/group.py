"""The group `trainyard jobs`."""

import click

from cli.lazy_group import LazyGroup

_VERBS = {
    "init": "cli.jobs.create:init",
    "create": "cli.jobs.create:create",
    "dry-run": "cli.jobs.create:dry_run",
    "clone": "cli.jobs.clone:clone",
    "ls": "cli.jobs.listing:list_jobs",
    "show": "cli.jobs.listing:show",
    "logs": "cli.jobs.watch:logs",
    "metrics": "cli.jobs.watch:metrics",
    "wait": "cli.jobs.watch:wait",
    "compare": "cli.jobs.compare:compare",
    "rows": "cli.jobs.rows:rows",
    "tokens": "cli.jobs.tokens:tokens",
    "pause": "cli.jobs.orders:pause",
    "resume": "cli.jobs.orders:resume",
    "retry": "cli.jobs.orders:retry",
    "cancel": "cli.jobs.orders:cancel",
}


@click.group(cls=LazyGroup, table=_VERBS, short_help="Training and evaluation jobs.")
def jobs() -> None:
    """Plan, submit, follow and control training and evaluation jobs."""
