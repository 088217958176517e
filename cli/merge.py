"""The command `trainyard adapters merge`: merge an adapter into its base model on this machine."""

import shlex
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from cli.client import Client
from cli.completion import ADAPTER
from cli.engine import made_by
from cli.errors import CommandError, Exit
from cli.output import print_json, say, suggest
from cli.verify import statement_of

Pull = Callable[[Client, str, str, Path], Any]
"""A function that pulls a model, adapter or checkpoint, by reference, into a folder."""
_NOUN = {"model": "model", "adapter": "adapter", "ckpt": "checkpoint"}


def merge_command(pull: Pull) -> click.Command:
    """Make the command; `pull` downloads the adapter and its base."""

    @click.command("merge", short_help="Merge an adapter into its base model.")
    @click.argument("reference", shell_complete=ADAPTER)
    @click.option(
        "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to create; must not exist."
    )
    @click.option(
        "--into",
        type=click.Choice(["auto", "original", "dequantized"]),
        default="auto",
        show_default=True,
        help="auto: the dequantized base for a QLoRA adapter, otherwise the original.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    def merge(reference: str, output: Path, into: str, as_json: bool) -> None:
        """Merge an adapter into its base model on this machine, as a folder that transformers loads.

        The result is read back, and its logits are compared with the adapter applied.
        """
        client = Client()
        made = merged_into(client, pull, client.whole(reference), output, into)
        if as_json:
            print_json(made)
            return
        say(
            f"  merged into the {made['into']} model, stored in {made['dtype']}; logits differ by {made['gap']:.1g} at most"
        )
        click.echo(output)
        suggest(f"trainyard models import {shlex.quote(str(output))} --name NAME --licence LICENCE")

    return merge


def merged_into(client: Client, pull: Pull, reference: str, output: Path, into: str = "auto") -> dict[str, Any]:
    """Merge an adapter into its base in the folder `output`, and return the engine's report.

    Raises:
        CommandError: there is no such adapter, its base has been deleted, or the two cannot be merged.
    """
    if any(find_spec(name) is None for name in ("torch", "peft")):
        mend = "In the clone: pip install -c docker/constraints.txt -e '.[train]'"
        raise CommandError("torch and peft are not installed here.", Exit.USAGE, mend)
    parent = output.absolute().parent
    if output.exists() or not parent.is_dir():
        message = f"{output} already exists." if output.exists() else f"There is no folder {parent}."
        raise CommandError(message, Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix=".pulled-", dir=parent) as folder:
        adapter, model = Path(folder) / "adapter", Path(folder) / "model"
        row = pull(client, "adapter", reference, adapter)
        noun, below = _model_below(client, row)
        pull(client, noun, below, model)
        return made_by("engine.merge_offline", model, adapter, output, into)


def _model_below(client: Client, manifest: dict[str, Any]) -> tuple[str, str]:
    """Return (noun, id) of an adapter's base model. Adapters between them are skipped: the newest contains them."""
    base = statement_of(manifest["signed"])["base"]
    while base is not None:
        noun = _NOUN[base["id"].partition("-")[0]]
        below = statement_of(client.get(f"{noun}s/{base['id']}/manifest")["signed"])
        if below["layout"] == "model":
            return noun, base["id"]
        base = below["base"]
    raise CommandError(f"{manifest['reference']} has no base model.", Exit.INVALID)
