"""The commands `trainyard models gguf` and `trainyard adapters gguf`: write a model as one GGUF file."""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from cli.client import Client
from cli.completion import WEIGHTS
from cli.engine import made_by
from cli.errors import CommandError, Exit
from cli.output import print_json, say, size
from cli.pull import pull_files

Pull = Callable[[Client, str, Path], Any]
"""A function that pulls a model into the subfolder `model` of a folder."""

_CHECKED = ("config.json", "tokenizer.json", "tokenizer_config.json")


def gguf_command(pull: Pull) -> click.Command:
    """Make the command; `pull` downloads a model, or downloads and merges an adapter."""

    @click.command("gguf", short_help="Write a model as GGUF.")
    @click.argument("reference", shell_complete=WEIGHTS)
    @click.option(
        "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to write."
    )
    @click.option(
        "--type", "kind", type=click.Choice(["f32", "f16", "q8_0"]), default="f16", show_default=True, help="Data type."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print what was written.")
    @click.pass_context
    def gguf(context: click.Context, reference: str, output: Path, kind: str, as_json: bool) -> None:
        """Write a model with its tokenizer as GGUF on this machine; an adapter is merged into its model first."""
        if find_spec("gguf") is None:
            mend = "In the clone: pip install -c docker/constraints.txt -e '.[train]'"
            raise CommandError("The package gguf is not installed here.", Exit.USAGE, mend)
        if not output.absolute().parent.is_dir():
            raise CommandError(f"There is no folder {output.absolute().parent}.", Exit.USAGE)
        with tempfile.TemporaryDirectory(prefix=".pulled-", dir=output.absolute().parent) as folder:
            client = Client()
            reference = client.whole(reference)
            if context.parent is not None and context.parent.command.name == "models":
                _require_writable(client, reference, Path(folder) / "model")
            pull(client, reference, Path(folder))
            written = made_by("engine.gguf", Path(folder) / "model", output, kind)
        if as_json:
            print_json(written)
            return
        say(f"  {written['tensors']} tensors, {size(written['size_bytes'])}, each read back and compared")
        click.echo(output)

    return gguf


def _require_writable(client: Client, reference: str, folder: Path) -> None:
    """Download the small files of a model and check them, before its weights are downloaded.

    Raises:
        CommandError: there is no such model, or it cannot be written as GGUF.
    """
    address = f"models/{quote(reference, safe='/')}"
    entries = [entry for entry in client.get(f"{address}/manifest")["files"] if entry["path"] in _CHECKED]
    folder.mkdir()
    pull_files(client, address, entries, folder)
    if {"config.json", "tokenizer.json"} <= {entry["path"] for entry in entries}:
        made_by("engine.gguf", folder, "--check")
