"""`trainyard models gguf` and `trainyard adapters gguf`: a model as one GGUF file."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.output import print_json, say, size

Pull = Callable[[Client, str, Path], Any]
"""Brings a model into the folder `model` of a folder."""
_ENGINE = "engine.gguf"
"""Run as a process of its own: numpy stays out of this one."""


def gguf_command(pull: Pull) -> click.Command:
    """The command, which brings a model here by `pull` first, or makes it here of an adapter."""

    @click.command("gguf")
    @click.argument("reference")
    @click.option(
        "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to write."
    )
    @click.option("--type", "kind", type=click.Choice(["f32", "f16", "q8_0"]), default="f16", show_default=True)
    @click.option("--json", "as_json", is_flag=True, help="Print what was written.")
    def gguf(reference: str, output: Path, kind: str, as_json: bool) -> None:
        """Write a model with its tokenizer as GGUF, here; an adapter is merged into its model first."""
        if find_spec("gguf") is None:
            raise CommandError("The package gguf is not installed here.", Exit.USAGE, "pip install 'trainyard[train]'")
        if not output.absolute().parent.is_dir():
            raise CommandError(f"There is no folder {output.absolute().parent}.", Exit.USAGE)
        with tempfile.TemporaryDirectory(prefix=".pulled-", dir=output.absolute().parent) as folder:
            pull(Client(), reference, Path(folder))
            told = _written(Path(folder) / "model", output, kind)
        if as_json:
            print_json(told)
            return
        say(f"  {told['tensors']} tensors, {size(told['size_bytes'])}, each read back and compared")
        click.echo(output)

    return gguf


def _written(folder: Path, output: Path, kind: str) -> dict[str, Any]:
    """What the engine says of the file.

    Raises:
        CommandError: the model is not one that is written as GGUF.
    """
    command = [sys.executable, "-m", _ENGINE, str(folder), str(output), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        code = Exit.INVALID if done.returncode == Exit.INVALID else Exit.UNEXPECTED
        raise CommandError(done.stderr.strip()[-2000:] or f"{_ENGINE} ended with {done.returncode}", code)
    return json.loads(done.stdout)
