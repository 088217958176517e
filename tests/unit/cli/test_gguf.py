"""A model that cannot be written as GGUF is refused before its weights are downloaded."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from cli.errors import Exit
from cli.main import main
from tests import runs


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type: is llama3"),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, "normalizes texts in a way that GGUF has no name"),
    ],
)
def test_a_refused_model_s_weights_are_not_downloaded(
    name: str, change: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], serve
) -> None:
    folder = runs.save_base(tmp_path / "model", "llama")
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change))
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    entries = [
        {"path": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    ]
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path.removeprefix("/v1/models/big/1/"))
        if asked[-1] == "manifest":
            return httpx.Response(200, json={"files": entries, "signed": {}})
        return httpx.Response(200, content=contents[asked[-1].removeprefix("files/")])

    serve(answer)
    out = tmp_path / "out"
    out.mkdir()
    assert main(["models", "gguf", "big/1", "-o", str(out / "big.gguf")]) == Exit.INVALID
    assert message in capsys.readouterr().err
    assert sorted(asked) == ["files/config.json", "files/tokenizer.json", "files/tokenizer_config.json", "manifest"]
    assert list(out.iterdir()) == []
