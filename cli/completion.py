"""Shell completion: the script for a shell, and ids and names from the service if it answers quickly."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from cli.client import Client
from cli.errors import CommandError
from cli.output import suggest

_ANSWER_S = 0.7
"""The shell is blocked while it completes."""
_SHOWN = 50
_INSTALL = {
    "bash": 'eval "$(trainyard completion bash)"    # in ~/.bashrc',
    "zsh": 'eval "$(trainyard completion zsh)"    # in ~/.zshrc',
    "fish": "trainyard completion fish > ~/.config/fish/completions/trainyard.fish",
}
_WHOLE_ALIASES = "COMP_WORDBREAKS=${COMP_WORDBREAKS//@}"
"""bash breaks words at @ by default, and would complete only what follows it in `name@alias`."""
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands, options, ids and names."""
    script = get_completion_class(shell)
    assert script is not None, "click knows these shells"
    click.echo(script(ctx.find_root().command, {}, "trainyard", "_TRAINYARD_COMPLETE").source())
    if shell == "bash":
        click.echo(_WHOLE_ALIASES)
    suggest(_INSTALL[shell])


def _ids(noun: str, about: Callable[[dict[str, Any]], str]) -> Completer:
    """Complete ids, newest first, with the noun in front or without it, as typed."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        bare = bool(incomplete) and not f"{noun}-".startswith(incomplete[: len(noun) + 1])
        with suppress(CommandError, ValueError, LookupError):
            prefix = f"{noun}-{incomplete}" if bare else incomplete
            rows = Client(answer_s=_ANSWER_S).beginning(noun, prefix, _SHOWN)
            return [CompletionItem(row["id"].removeprefix(f"{noun}-" if bare else ""), help=about(row)) for row in rows]
        return []

    return complete


def _references(*nouns: str) -> Completer:
    """Complete `name/version`, and the name alone, which stands for its newest version."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        found: dict[str, str] = {}
        with suppress(CommandError, ValueError, LookupError):
            client = Client(answer_s=_ANSWER_S)
            for noun in nouns:
                for row in client.get(f"{noun}s", limit=100, kind=noun)["data"]:
                    found.setdefault(str(row["name"]), "the newest version")
                    found[row["reference"]] = row["job_id"]
        return [CompletionItem(name, help=about) for name, about in found.items() if name.startswith(incomplete)]

    return complete


def _alias(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `name@alias`."""
    del ctx, param
    with suppress(CommandError, ValueError, LookupError):
        rows = Client(answer_s=_ANSWER_S).get("aliases")["data"]
        return [
            CompletionItem(row["id"], help=row["turn"]["model"]) for row in rows if row["id"].startswith(incomplete)
        ]
    return []


JOB = _ids("job", lambda row: f"{row['kind']}, {row['status']}")
FILE = _ids("file", lambda row: row["filename"])
CHECKPOINT = _ids("ckpt", lambda row: f"step {row['step']} of {row['job_id']}")
KEY = _ids("key", lambda row: f"{row['name']}, {row['scope']}")
PLAN = _ids("plan", lambda row: f"{row['kind']}, {row['steps']} steps")
ALIAS: Completer = _alias
MODEL = _references("model")
ADAPTER = _references("adapter")
WEIGHTS = _references("model", "adapter")
