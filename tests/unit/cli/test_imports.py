"""Which files of a folder are sent as a model."""

from pathlib import Path

import httpx
import pytest

from api.models.imports import _MAX_FILES
from cli import imports
from cli.errors import CommandError, Exit
from cli.main import main
from engine.imports import model

READ = ["LICENSE.txt", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
STRANGE = ["consolidated.safetensors", "params.json", "preprocessor_config.json", "trainer_state.json", "vocab.json"]


def folder_of(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).write_bytes(b"{}")
    return folder


def test_what_is_sent_is_what_the_service_reads() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-1-of-2.safetensors", "model-00001-of-00002.safetensors.json"]
    assert imports._READ == model._READ
    assert imports._NOTICE == model._NOTICE
    assert imports._WEIGHTS.fullmatch(model._SINGLE)
    assert [bool(imports._WEIGHTS.fullmatch(shard)) for shard in shards] == [True, False, False]
    assert [bool(model._SHARD.fullmatch(shard)) for shard in shards] == [True, False, False]
    assert imports._MAX_FILES == _MAX_FILES


def test_what_the_service_would_refuse_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], serve
) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(201, json={"reference": "own/1", "lineage": {"left_out": []}})
        sent.append(request.read().partition(b'filename="')[2].partition(b'"')[0].decode())
        return httpx.Response(201, json={"id": "file-1", "bytes": 2, "sha256": "0"})

    serve(answer)
    folder = folder_of(tmp_path, [*READ, *STRANGE])
    assert main(["models", "import", str(folder), "--name", "own", "--licence", "mit"]) == 0
    assert sent == READ
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines() if "left out" in line] == STRANGE


def test_a_folder_without_weights_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"has no model\.safetensors") as caught:
        imports._files_to_send(folder_of(tmp_path, ["config.json", "consolidated.safetensors"]))
    assert caught.value.code is Exit.INVALID


def test_more_files_than_the_service_takes_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    shards = [f"model-{number:05}-of-00128.safetensors" for number in range(1, 129)]
    with pytest.raises(CommandError, match="holds 129 files of a model; the service takes 128"):
        imports._files_to_send(folder_of(tmp_path, ["config.json", *shards]))
