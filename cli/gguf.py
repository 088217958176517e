"""`trainyard models gguf` and `trainyard adapters gguf`: a model as one GGUF file."""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from cli.client import Client
from cli.completion import WEIGHTS
from cli.engine import made_by
from cli.errors import CommandError, Exit
from cli.output import print_json, say, size

Pull = Callable[[Client, str, Path], Any]
"""Brings a model into the folder `model` of a folder."""


def gguf_command(pull: Pull) -> click.Command:
    """The command, which brings a model here by `pull` first, or makes it here of an adapter."""

    @click.command("gguf")
    @click.argument("reference", shell_complete=WEIGHTS)
    @click.option(
        "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to write."
    )
    @click.option("--type", "kind", type=click.Choice(["f32", "f16", "q8_0"]), default="f16", show_default=True)
    @click.option("--json", "as_json", is_flag=True, help="Print what was written.")
    def gguf(reference: str, output: Path, kind: str, as_json: bool) -> None:
        """Write a model with its tokenizer as GGUF, here; an adapter is merged into its model first."""
        if find_spec("gguf") is None:
            mend = "In the clone: pip install -c docker/constraints.txt -e '.[train]'"
            raise CommandError("The package gguf is not installed here.", Exit.USAGE, mend)
        if not output.absolute().parent.is_dir():
            raise CommandError(f"There is no folder {output.absolute().parent}.", Exit.USAGE)
        with tempfile.TemporaryDirectory(prefix=".pulled-", dir=output.absolute().parent) as folder:
            client = Client()
            pull(client, client.whole(reference), Path(folder))
            told = made_by("engine.gguf", Path(folder) / "model", output, kind)
        if as_json:
            print_json(told)
            return
        say(f"  {told['tensors']} tensors, {size(told['size_bytes'])}, each read back and compared")
        click.echo(output)

    return gguf
