"""The groups `trainyard models` and `trainyard adapters`: what jobs have made, by name/version or id."""

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
    """Return the API path of an artifact, such as `adapters/support-bot/2`."""
    return f"{noun}s/{quote(reference, safe='/')}"


COMPLETED = {"model": MODEL, "adapter": ADAPTER}


def find(client: Client, noun: str, reference: str) -> dict[str, Any]:
    """Return the artifact with a name, a `name/version`, or an id, which may be abbreviated to a unique prefix.

    Raises:
        CommandError: there is no such artifact, or the prefix is ambiguous.
    """
    is_id = reference.startswith(f"{noun}-") and "/" not in reference
    matches = client.beginning(noun, reference, AMBIGUOUS_SHOWN + 1) if is_id else []
    if len(matches) == 1:
        return matches[0]
    try:
        return client.get(address_of(noun, reference))  # a name may look like the beginning of an id
    except CommandError as error:
        if not matches or error.code is not Exit.NOT_FOUND:
            raise
        raise ambiguous(noun, reference, [row.get("artifact_id", row["id"]) for row in matches]) from error


def pull_artifact(client: Client, noun: str, reference: str, folder: Path) -> dict[str, Any]:
    """Download an artifact into a folder, check every file's sha256, and return its manifest.

    The signed manifest is written first, so that a pull that is cut leaves a record of which artifact the files are.
    """
    manifest = client.get(f"{address_of(noun, reference)}/manifest")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(manifest["signed"], indent=1) + "\n", encoding="utf-8")
    part.replace(folder / MANIFEST)
    pull_files(client, address_of(noun, reference), manifest["files"], folder)
    return manifest


def _group(noun: str, about: str) -> click.Group:
    """Make the group of commands for models or for adapters."""
    group = click.Group(name=f"{noun}s", help=about, short_help=f"{noun.capitalize()}s: list, pull, promote, verify.")
    reference_argument = click.argument("reference", shell_complete=COMPLETED[noun])

    @group.command("ls", short_help=f"List {noun}s, newest first.")
    @click.option("--name", help="Only versions of this name.")
    @click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most rows to list.")
    @format_options
    def list_artifacts(name: str | None, limit: int, as_json: bool, quiet: bool) -> None:
        """List versions, newest first."""
        rows = list(Client().pages(f"{noun}s", limit, name=name, kind=noun))
        print_rows(rows, COLUMNS, as_json=as_json, quiet=quiet)
        suggest(f"trainyard {noun}s show {rows[0]['reference']}" if rows else "trainyard jobs init sft > job.yaml")

    @group.command(short_help=f"Show one {noun}.")
    @reference_argument
    @format_options
    def show(reference: str, as_json: bool, quiet: bool) -> None:
        """Show one version: its figures, digest and lineage."""
        row = find(Client(), noun, reference)
        print_fields(row, FIELDS, as_json=as_json, quiet=quiet)
        suggest(f"trainyard {noun}s pull {row['reference']}")

    @group.command(short_help=f"Download one {noun}.")
    @reference_argument
    @click.option(
        "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Target folder; default: ./NAME."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
    @click.option("-q", "--quiet", is_flag=True, help="Print the id only.")
    def pull(reference: str, output: Path | None, as_json: bool, quiet: bool) -> None:
        """Download one in the Hugging Face or PEFT layout. Checksums are verified; an interrupted download resumes."""
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

    @group.command(short_help=f"Delete {noun}s.")
    @click.argument("references", nargs=-1, required=True, shell_complete=COMPLETED[noun])
    @format_options
    def rm(references: tuple[str, ...], as_json: bool, quiet: bool) -> None:
        """Delete versions, given as `name/version` or by complete ids. The lineage of what was made from them stays."""
        client = Client()
        rows = ((reference, client.delete(address_of(noun, reference))) for reference in references)
        done = ((row["id"] if quiet else reference, row) for reference, row in rows)
        print_done(done, asked=len(references), as_json=as_json)
        suggest(f"trainyard {noun}s ls")

    for command in (verify, signing_key, promote, rollback, aliases):
        group.add_command(command)
    return group


models = _group("model", "Models: made by pretrain jobs and full fine-tuning, or imported.")
models.add_command(import_model)
models.add_command(gguf_command(lambda client, name, folder: pull_artifact(client, "model", name, folder / "model")))
adapters = _group("adapter", "Adapters: made by LoRA and QLoRA jobs.")
adapters.add_command(merge_command(pull_artifact))
adapters.add_command(
    gguf_command(lambda client, name, folder: merged_into(client, pull_artifact, name, folder / "model"))
)
