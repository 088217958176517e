"""The commands `verify` and `signing-key`: check a pulled folder against its signed manifest, offline."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import click

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.output import legible, print_json, say
from cli.pull import sha256_of

MANIFEST = "manifest.dsse.json"
"""The signed manifest in a pulled folder; no artifact has a file of that name."""
_TYPE = "application/vnd.trainyard.manifest+json"


@click.command(short_help="Check a pulled folder offline.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--key",
    "key_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The installation's public key, as `signing-key` prints it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the statement that was signed.")
def verify(folder: Path, key_path: Path, as_json: bool) -> None:
    """Check the signature of a pulled folder's manifest and every byte of its files, without a service."""
    path = folder / MANIFEST
    if not path.exists():
        raise CommandError(f"{folder} holds no {MANIFEST}.", Exit.NOT_FOUND, "Pull it again: `pull` downloads it too.")
    statement = open_envelope(path.read_bytes(), key_path.read_bytes(), str(path))
    _check_files(folder, statement)
    if as_json:
        print_json(statement)
        return
    base = statement.get("base") or {}
    adapter = statement.get("adapter") or {}
    say(f"  {len(statement['files'])} files match their signature, digest {statement['digest'][:12]}")
    if base:
        say(f"  on {base['reference']}, digest {base['digest'][:12]}")
    for dataset in statement.get("datasets") or []:
        say(f"  from {dataset['filename']}, sha256 {dataset['sha256'][:12]}")
    for file in statement.get("imported_from") or []:
        say(f"  imported from {file['filename']}, sha256 {file['sha256'][:12]}")
    if statement.get("source"):
        say(f"  source {statement['source']}")
    if adapter:
        say(f"  rank {adapter['rank']}, seed {statement.get('seed')}")
    click.echo(legible(statement["reference"]))


@click.command("signing-key", short_help="Print the key that verifies manifests.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def signing_key(as_json: bool) -> None:
    """Print the public key that verifies the service's manifests, in PEM."""
    key = Client().get("signing-key")
    if as_json:
        print_json(key)
    else:
        click.echo(key["public_key"], nl=False)


def open_envelope(content: bytes, public_pem: bytes, place: str) -> dict[str, Any]:
    """Return the statement in an envelope that was signed with this key.

    Raises:
        CommandError: the envelope or the key cannot be read, or another key signed it.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CommandError(
            "The key is not a public key in PEM.", Exit.USAGE, "`trainyard adapters signing-key`"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise CommandError("The key is not an Ed25519 key.", Exit.USAGE, "`trainyard adapters signing-key`")
    try:
        envelope = json.loads(content)
        payload_type = str(envelope["payloadType"])
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]]
    except (ValueError, TypeError, KeyError) as error:
        raise CommandError(f"{place} is not a signed manifest.", Exit.INVALID, "Pull it again.") from error
    signed = b"DSSEv1 %d %s %d %s" % (len(payload_type.encode()), payload_type.encode(), len(payload), payload)
    for signature in signatures:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            continue
        if payload_type == _TYPE:
            return json.loads(payload)
    raise CommandError(
        f"{place} is not signed with this key.", Exit.INVALID, "It was changed, or signed by another installation."
    )


def statement_of(envelope: dict[str, Any]) -> dict[str, Any]:
    """Return the statement in an envelope without checking its signature."""
    return json.loads(base64.b64decode(envelope["payload"]))


def require_own(folder: Path, reference: str) -> None:
    """Check that a folder holds no other version, whose files would be mixed with the new ones.

    Raises:
        CommandError: its manifest is another version's, or cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return
    mend = "Name another folder with -o, or remove this one."
    try:
        there = statement_of(json.loads(path.read_bytes()))["reference"]
    except (ValueError, TypeError, KeyError) as error:
        raise CommandError(f"{path} is not a signed manifest.", Exit.INVALID, mend) from error
    if there != reference:
        raise CommandError(f"{folder} holds {there}, not {reference}.", Exit.INVALID, mend)


def _check_files(folder: Path, statement: dict[str, Any]) -> None:
    """Check that a folder holds exactly the signed files.

    Raises:
        CommandError: a file is missing, different or not in the manifest.
    """
    signed = {file["path"]: file["sha256"] for file in statement["files"]}
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(signed.items()))
    if hashlib.sha256(lines.encode()).hexdigest() != statement["digest"]:
        raise CommandError(
            "The manifest's digest is not that of its files.",
            Exit.INVALID,
            "Report it to the operator of the installation.",
        )
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    found.pop(MANIFEST, None)
    for path, sha256 in signed.items():
        if path not in found or found[path].is_symlink():
            raise CommandError(f"{path} is missing.", Exit.INVALID, "Pull it again.")
        if sha256_of(found.pop(path)) != sha256:
            raise CommandError(f"{path} differs from what was signed.", Exit.INVALID, "Remove it and pull it again.")
    if found:
        raise CommandError(f"{min(found)} is not in the manifest.", Exit.INVALID, "It is not signed: remove it.")
