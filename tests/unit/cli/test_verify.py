"""What was pulled, checked offline."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from api.manifest_signing import Signer
from cli.errors import CommandError
from cli.main import main
from cli.verify import MANIFEST, open_envelope, statement_of

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """A folder as `pull` leaves it, and beside it the public key."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    files = []
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
        files.append({"path": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)})
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    signer = Signer(tmp_path / "home")
    sign(folder, signer, {"reference": "bot/1", "digest": digest, "files": files})
    (tmp_path / "key.pem").write_text(signer.public_pem)
    return folder


def sign(folder: Path, signer: Signer, statement: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(signer.sign(statement).model_dump_json(by_alias=True))


def verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["adapters", "verify", str(folder), "--key", str(folder.parent / "key.pem")])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_a_folder_as_it_was_signed_is_confirmed(pulled: Path, capsys):
    assert verified(pulled, capsys) == (0, f"bot/1\n  2 files match their signature, digest {digest_of(pulled)}\n")


def test_an_import_is_shown_with_its_files_and_its_source(pulled: Path, capsys):
    statement = statement_of(json.loads((pulled / MANIFEST).read_text()))
    uploaded = {"id": "file-1", "filename": "model.tar", "sha256": "a" * 64}
    origin = {"datasets": [], "imported_from": [uploaded], "source": "https://example.org", "left_out": []}
    sign(pulled, Signer(pulled.parent / "home"), statement | origin)
    code, out = verified(pulled, capsys)
    assert code == 0
    assert "  imported from model.tar, sha256 aaaaaaaaaaaa\n  source https://example.org\n" in out


def digest_of(folder: Path) -> str:
    envelope = (folder / MANIFEST).read_bytes()
    return open_envelope(envelope, (folder.parent / "key.pem").read_bytes(), "here")["digest"][:12]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"weightz"), "differs from what was signed"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "is missing"),
        (lambda folder: (folder / "evil.py").write_text("import os"), "evil.py is not in the manifest"),
        (lambda folder: (folder / MANIFEST).write_text("{}"), "is not a signed manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), f"holds no {MANIFEST}"),
        (lambda folder: (folder.parent / "key.pem").write_text("hello"), "is not a public key"),
        (
            lambda folder: (folder.parent / "key.pem").write_text(Signer(folder.parent / "other").public_pem),
            "is not signed with this key",
        ),
    ],
)
def test_what_differs_from_what_was_signed_is_told(pulled: Path, capsys, change, told: str):
    change(pulled)
    code, out = verified(pulled, capsys)
    assert code != 0
    assert told in out


def test_a_statement_that_was_changed_is_found_out(pulled: Path):
    envelope = json.loads((pulled / MANIFEST).read_text())
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    with pytest.raises(CommandError, match="not signed with this key"):
        open_envelope(json.dumps(envelope).encode(), (pulled.parent / "key.pem").read_bytes(), "here")
