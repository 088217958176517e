"""`trainyard models` and `trainyard adapters`: what jobs have made, by name/version or id."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from cli.client import Client
from cli.output import Column, format_options, moment, plain, print_fields, print_json, print_rows, say, size
from cli.pull import pull_files

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS: list[Column] = [
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


_FIELDS: list[Column] = [
    *_COLUMNS,
    ("licence", lambda row: row.get("licence")),
    ("context", lambda row: (row.get("limits") or {}).get("context_length")),
    ("digest", lambda row: row["digest"]),
    ("made from", lambda row: row.get("base_artifact_id")),
    ("lineage", _lineage),
]


def address_of(noun: str, reference: str) -> str:
    """The path of an artifact: `adapters/support-bot/2`."""
    return f"{noun}s/{quote(reference, safe='/')}"


def pull_artifact(client: Client, noun: str, reference: str, folder: Path) -> dict[str, Any]:
    """Bring an artifact into a folder, every file checked by its sha256; the manifest it was checked against."""
    manifest = client.get(f"{address_of(noun, reference)}/manifest")
    folder.mkdir(parents=True, exist_ok=True)
    pull_files(client, address_of(noun, reference), manifest["files"], folder)
    return manifest


def _group(noun: str, about: str) -> click.Group:
    """The same four verbs for models and for adapters."""
    group = click.Group(name=f"{noun}s", help=about)

    @group.command("ls")
    @click.option("--name", help="The versions of one name.")
    @click.option("--limit", default=50, show_default=True)
    @format_options
    def list_artifacts(name: str | None, limit: int, as_json: bool, quiet: bool) -> None:
        """List them, newest first."""
        rows: Iterator[dict[str, Any]] = Client().pages(f"{noun}s", limit, name=name, kind=noun)
        print_rows(rows, _COLUMNS, as_json=as_json, quiet=quiet)

    @group.command()
    @click.argument("reference")
    @format_options
    def show(reference: str, as_json: bool, quiet: bool) -> None:
        """Show one: its figures, digest and lineage."""
        row = Client().get(address_of(noun, reference))
        print_fields(row, _FIELDS, as_json=as_json, quiet=quiet)
        say(f"  next: trainyard {noun}s pull {reference}")

    @group.command()
    @click.argument("reference")
    @click.option(
        "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder; ./NAME if not given."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
    def pull(reference: str, output: Path | None, as_json: bool) -> None:
        """Download it in the Hugging Face or PEFT layout; sha256 checked, a cut download goes on where it ended."""
        folder = output or Path(reference.split("/", maxsplit=1)[0])
        manifest = pull_artifact(Client(), noun, reference, folder)
        if as_json:
            print_json(manifest)
        else:
            click.echo(folder)

    @group.command()
    @click.argument("references", nargs=-1, required=True)
    def rm(references: tuple[str, ...]) -> None:
        """Delete versions. The lineage of what was made from them stays."""
        client = Client()
        for reference in references:
            client.delete(address_of(noun, reference))
            click.echo(reference)

    return group


models = _group("model", "Models: what pretrain jobs and full tuning made.")
adapters = _group("adapter", "Adapters: what LoRA jobs made.")
