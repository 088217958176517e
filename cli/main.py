"""The `trainyard` command line: a noun, then a verb."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click

from cli.errors import CommandError, Exit
from cli.lazy_group import LazyGroup
from cli.output import discard, reader_may_go, say

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
    "keys": "cli.keys:keys",
    "spend": "cli.spend:spend",
    "completion": "cli.completion:completion",
}


class _Root(LazyGroup):
    """The root command. It exits with 0 when the reader of its output closes the pipe, where click would exit with 1."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _clean_exit():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _clean_exit():
            return super().invoke(ctx)


@contextmanager
def _clean_exit() -> Iterator[None]:
    """Exit with 0 when the reader of a list has gone, as in `trainyard jobs ls | head -1`.

    Commands whose exit code means something handle a closed pipe themselves (`reader_may_go`).
    """
    try:
        yield
    except BrokenPipeError:
        discard(sys.stdout)
        raise click.exceptions.Exit(Exit.OK) from None
    except KeyboardInterrupt:
        # Handled before click does, which first writes to a stderr that may have no reader left.
        raise click.Abort from None


@click.command(
    cls=_Root,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="trainyard", message="%(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Training as a service: datasets and job specs in, versioned models and adapters out.

    Data goes to stdout, everything else to stderr: a table on a terminal, tab-separated lines off it, the
    API's JSON with --json. An id may be abbreviated to a unique prefix, except for `rm` of models and
    adapters, which takes complete ids only.

    Exit codes: 0 ok, 1 unexpected, 2 usage, 3 key refused, 4 not found, 5 job failed, 6 job cancelled,
    7 timed out, 65 invalid data or spec, 69 service not reachable, 130 Ctrl-C.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def _escape_unencodable(*streams: TextIO) -> None:
    """Have characters outside a legacy encoding printed as escapes, not raised as UnicodeEncodeError."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _escape_unencodable(sys.stdout, sys.stderr)
    try:
        code = cli.main(arguments, prog_name="trainyard", standalone_mode=False)
    except CommandError as error:
        say(f"trainyard: {error.message}")
        if error.mend:
            say(f"  {error.mend}")
        return error.code
    except click.ClickException as error:
        with reader_may_go(sys.stderr):
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("\ninterrupted")
        return Exit.INTERRUPTED
    except OSError as error:
        say(f"trainyard: {error.filename}: {error.strerror}" if error.filename else f"trainyard: {error}")
        return Exit.UNEXPECTED
    return code if isinstance(code, int) else Exit.OK


if __name__ == "__main__":
    sys.exit(main())
