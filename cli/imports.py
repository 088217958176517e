"""The command `trainyard models import`: upload a model from a local folder."""

import re
from pathlib import Path
from typing import Any

import click

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.output import print_json, say, size, suggest

_MAX_FILES = 128
"""The service's limit."""
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_READ = frozenset(
    {
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
        "generation_config.json",
    }
)  # fmt: skip
_NOTICE = re.compile(r"(LICEN[SC]E|NOTICE|USE_POLICY)([-_][A-Za-z0-9_-]{1,40})?(\.(txt|md|rst))?")
_KEPT_S = 86_400
"""The uploaded files expire after a day: the model has its own reference to their bytes by then."""


@click.command("import", short_help="Upload a model from a local folder.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="The model's name in job specs.")
@click.option("--licence", required=True, help="SPDX identifier of the weights' licence, such as apache-2.0.")
@click.option("--source", help="Where the model came from; free text.")
@click.option("--json", "as_json", is_flag=True, help="Print the model.")
def import_model(folder: Path, name: str, licence: str, source: str | None, as_json: bool) -> None:
    """Upload a model in the Hugging Face layout: Llama, Mistral, Qwen2, Qwen3 or GPT-2, with safetensors weights."""
    paths = _files_to_send(folder)
    client = Client()
    body: dict[str, Any] = {"name": name, "licence": licence, "files": [_send(client, path) for path in paths]}
    row = client.post("models", body if source is None else {**body, "source": source})
    if as_json:
        print_json(row)
        return
    for left_out in row["lineage"]["left_out"]:
        say(f"  {left_out}  left out by the service")
    click.echo(row["reference"])
    suggest(f"trainyard chat {row['reference']}")


def _files_to_send(folder: Path) -> list[Path]:
    """Return the files of a folder that the service takes, and name the others on stderr.

    Raises:
        CommandError: there are no weights, or too many files.
    """
    there = [path for path in sorted(folder.iterdir()) if path.is_file()]
    sent = [
        path for path in there if path.name in _READ or _WEIGHTS.fullmatch(path.name) or _NOTICE.fullmatch(path.name)
    ]
    if not any(_WEIGHTS.fullmatch(path.name) for path in sent):
        message = f"{folder} has no model.safetensors and no shards of it (model-00001-of-00002.safetensors and so on)."
        raise CommandError(message, Exit.INVALID, "Save the model with safetensors.")
    if len(sent) > _MAX_FILES:
        message = f"{folder} holds {len(sent)} files of a model; the service takes {_MAX_FILES} at once."
        raise CommandError(message, Exit.INVALID, "Save the model in larger shards.")
    for path in there:
        if path not in sent:
            say(f"  {path.name}  left out")
    return sent


def _send(client: Client, path: Path) -> str:
    """Upload a file, which the service keeps for a day, and return its id."""
    fields = {"purpose": "model", "expires_after[anchor]": "created_at", "expires_after[seconds]": str(_KEPT_S)}
    with path.open("rb") as content:
        part = {"file": (path.name, content, "application/octet-stream")}
        row = client.ask("POST", "files", data=fields, files=part, timeout=None)
    say(f"  {path.name}  {size(row['bytes'])}  sha256 {row['sha256'][:12]}")
    return row["id"]
