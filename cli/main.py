"""The `trainyard` command: a noun, then a verb."""

import os
import sys

import click

from cli.errors import CommandError, Exit
from cli.table import Table

COMMANDS = {
    "up": "cli.up:up",
    "down": "cli.up:down",
    "status": "cli.status:status",
    "demo": "cli.demo:demo",
    "doctor": "cli.doctor:doctor",
    "backup": "cli.backup:backup",
    "restore": "cli.backup:restore",
    "files": "cli.files:files",
    "jobs": "cli.jobs.group:jobs",
    "checkpoints": "cli.checkpoints:checkpoints",
    "adapters": "cli.artifacts:adapters",
    "models": "cli.artifacts:models",
    "evals": "cli.evals:evals",
    "chat": "cli.chat:chat",
    "estimate": "cli.estimate:estimate",
    "completion": "cli.completion:completion",
}


@click.command(
    cls=Table,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="trainyard", message="%(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Training as a service: datasets and job specs in, versioned models and adapters out.

    Data goes to stdout, narration to stderr: a table on a terminal, tab-separated lines off it, the API's
    JSON with --json. An id may be cut short while it stays the only one that begins so.

    Exit codes: 0 ok, 1 unexpected, 2 usage, 3 key refused, 4 not found, 5 job failed, 6 job cancelled,
    7 timed out, 65 invalid data or spec, 69 service not reachable, 130 Ctrl-C.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        answer = cli.main(arguments, prog_name="trainyard", standalone_mode=False)
    except CommandError as error:
        click.echo(f"trainyard: {error.message}", err=True)
        if error.mend:
            click.echo(f"  {error.mend}", err=True)
        return error.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\ninterrupted", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # `trainyard jobs ls | head -1`: the reader has all it wanted. Without this, the
        # interpreter would complain once more while it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return answer if isinstance(answer, int) else Exit.OK


if __name__ == "__main__":
    sys.exit(main())
