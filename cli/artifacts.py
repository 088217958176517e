"""`trainyard models` and `trainyard adapters`: what jobs have made, by name/version or id."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from cli.aliases import aliases, promote, rollback
from cli.client import AMBIGUOUS_SHOWN, Client, ambiguous
from cli.completion import ADAPTER, MODEL
from cli.errors import CommandError, Exit
from cli.gguf import gguf_command
from cli.imports import import_model
from cli.merge import merge_command, merged_into
from cli.output import (
    Column,
    format_options,
    moment,
    plain,
    print_done,
    print_fields,
    print_json,
    print_rows,
    size,
    suggest,
)
from cli.pull import here, pull_files
from cli.verify import MANIFEST, require_own, signing_key, verify

COLUMNS: list[Column] = [
    ("reference", lambda row: f"{row['name']}/{row['version']}"),
    ("id", lambda row: row["id"]),
    ("step", lambda row: row["step"]),
    ("held-out loss", lambda row: (row.get("metrics") or {}).get("eval_loss")),
    ("size", lambda row: size(row["size_bytes"])),
    ("job", lambda row: row["job_id"]),
    ("created", lambda row: moment(row["created_at"])),
]


def _lineage(row: dict[str, Any]) -> str:
    return "  ".join(f"{name} {plain(value)}" for name, value in (row.get("lineage") or {}).items())


FIELDS: list[Column] = [
    *COLUMNS,
    ("licence", lambda row: row.get("licence")),
    ("context", lambda row: (row.get("limits") or {}).get("context_length")),
    ("digest", lambda row: row["digest"]),
    ("made from", lambda row: row.get("base_artifact_id")),
    ("lineage", _lineage),
]


def address_of(noun: str, reference: str) -> str:
    """The path of an artifact: `adapters/support-bot/2`."""
    return f"{noun}s/{quote(reference, safe='/')}"


COMPLETED = {"model": MODEL, "adapter": ADAPTER}


def find(client: Client, noun: str, reference: str) -> dict[str, Any]:
    """The artifact of a name, `name/version`, or an id, which may be cut short while it is the only one so.

    Raises:
        CommandError: there is none, or several begin so.
    """
    is_id = reference.startswith(f"{noun}-") and "/" not in reference
    begun = client.beginning(noun, reference, AMBIGUOUS_SHOWN + 1) if is_id else []
    if len(begun) == 1:
        return begun[0]
    try:
        return client.get(address_of(noun, reference))  # a name may begin as ids do
    except CommandError as error:
        if not begun or error.code is not Exit.NOT_FOUND:
            raise
        raise ambiguous(noun, reference, [row.get("artifact_id", row["id"]) for row in begun]) from error


def pull_artifact(client: Client, noun: str, reference: str, folder: Path) -> dict[str, Any]:
    """Bring an artifact into a folder, every file checked by its sha256; the manifest it was checked against.

    What the service signed of it lies beside the files, before them: a pull that is cut has told whose they are.
    """
    manifest = client.get(f"{address_of(noun, reference)}/manifest")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(manifest["signed"], indent=1) + "\n", encoding="utf-8")
    part.replace(folder / MANIFEST)
    pull_files(client, address_of(noun, reference), manifest["files"], folder)
    return manifest


def _group(noun: str, about: str) -> click.Group:
    """The same four verbs for models and for adapters."""
    group = click.Group(name=f"{noun}s", help=about)
    reference_argument = click.argument("reference", shell_complete=COMPLETED[noun])

    @group.command("ls")
    @click.option("--name", help="The versions of one name.")
    @click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
    @format_options
    def list_artifacts(name: str | None, limit: int, as_json: bool, quiet: bool) -> None:
        """List them, newest first."""
        rows = list(Client().pages(f"{noun}s", limit, name=name, kind=noun))
        print_rows(rows, COLUMNS, as_json=as_json, quiet=quiet)
        suggest(f"trainyard {noun}s show {rows[0]['reference']}" if rows else "trainyard jobs init sft > job.yaml")

    @group.command()
    @reference_argument
    @format_options
    def show(reference: str, as_json: bool, quiet: bool) -> None:
        """Show one: its figures, digest and lineage."""
        row = find(Client(), noun, reference)
        print_fields(row, FIELDS, as_json=as_json, quiet=quiet)
        suggest(f"trainyard {noun}s pull {row['reference']}")

    @group.command()
    @reference_argument
    @click.option(
        "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder; ./NAME if not given."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
    @click.option("-q", "--quiet", is_flag=True, help="Print its id only.")
    def pull(reference: str, output: Path | None, as_json: bool, quiet: bool) -> None:
        """Download it in the Hugging Face or PEFT layout; sha256 checked, a cut download goes on where it ended."""
        client = Client()
        row = find(client, noun, reference)
        folder = output or here(row["name"])
        require_own(folder, row["reference"])
        manifest = pull_artifact(client, noun, row["reference"], folder)
        if as_json:
            print_json(manifest)
        else:
            click.echo(row["id"] if quiet else folder)
        suggest(f"trainyard chat {row['reference']}")

    @group.command()
    @click.argument("references", nargs=-1, required=True, shell_complete=COMPLETED[noun])
    @format_options
    def rm(references: tuple[str, ...], as_json: bool, quiet: bool) -> None:
        """Delete versions, each as `name/version` or by its whole id. The lineage of what was made from them stays."""
        client = Client()
        rows = ((reference, client.delete(address_of(noun, reference))) for reference in references)
        done = ((row["id"] if quiet else reference, row) for reference, row in rows)
        print_done(done, asked=len(references), as_json=as_json)
        suggest(f"trainyard {noun}s ls")

    for command in (verify, signing_key, promote, rollback, aliases):
        group.add_command(command)
    return group


models = _group("model", "Models: what pretrain jobs and full tuning made, and what was imported.")
models.add_command(import_model)
models.add_command(gguf_command(lambda client, name, folder: pull_artifact(client, "model", name, folder / "model")))
adapters = _group("adapter", "Adapters: what LoRA jobs made.")
adapters.add_command(merge_command(pull_artifact))
adapters.add_command(
    gguf_command(lambda client, name, folder: merged_into(client, pull_artifact, name, folder / "model"))
)
