"""Models from elsewhere: what is taken, and that everything else is refused."""

import io
import json
import tracemalloc

import pytest

from engine.imports import Checked, ImportFault, Piece, check_model, members
from tests import hostile

_MOST_BYTES = 64 << 20


def pieces(files: dict[str, bytes]) -> dict[str, Piece]:
    return {name: Piece(io.BytesIO(content), 0, len(content)) for name, content in files.items()}


def opened(archive: bytes) -> Checked:
    return check_model(members(Piece(io.BytesIO(archive), 0, len(archive))))


def test_a_sound_model_is_taken_and_its_config_written_anew() -> None:
    config = {**hostile.CONFIG, "_name_or_path": "/home/somebody/model", "use_cache": True}
    checked = check_model(pieces(hostile.model(config__json=json.dumps(config).encode(), README__md=b"# hello")))
    assert json.loads(checked.rewritten["config.json"]) == hostile.CONFIG
    assert checked.as_is == ["model.safetensors", "tokenizer.json"]
    assert checked.left_out == ["README.md"]
    assert checked.limits == {"context_length": 64, "vocabulary_size": 16}
    assert checked.parameters == 16 * 8 + 2 * 64 + 2 * 32 + 3 * 96 + 3 * 8


@pytest.mark.parametrize("folder", ["", "model/", "./", "./model/"])
def test_a_tar_of_a_folder_is_taken(folder: str) -> None:
    assert opened(hostile.tar({folder + name: content for name, content in hostile.model().items()})).family == "llama"


def test_shards_are_taken_with_an_index_of_our_own() -> None:
    names = list(hostile.SHAPES)
    halves = [{name: hostile.SHAPES[name] for name in part} for part in (names[:5], names[5:])]
    files = hostile.model(model__safetensors=None)
    for number, half in enumerate(halves, 1):
        files[f"model-{number:05}-of-00002.safetensors"] = hostile.safetensors(hostile.header(half))
    files["model.safetensors.index.json"] = b'{"weight_map": {"a": "../../etc/passwd"}}'
    index = json.loads(check_model(pieces(files)).rewritten["model.safetensors.index.json"])
    assert set(index["weight_map"]) == set(names)
    assert set(index["weight_map"].values()) == {name for name in files if name.endswith(".safetensors")}


@pytest.mark.parametrize("attack", hostile.MODELS)
def test_a_hostile_model_is_refused_with_place_and_mend(attack: str) -> None:
    refuse(lambda: check_model(pieces(hostile.MODELS[attack])))


@pytest.mark.parametrize("attack", hostile.ARCHIVES)
def test_a_hostile_archive_is_refused_with_place_and_mend(attack: str) -> None:
    refuse(lambda: opened(hostile.ARCHIVES[attack]))


def refuse(look) -> None:
    tracemalloc.start()
    with pytest.raises(ImportFault) as refused:
        look()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.place
    assert refused.value.mend
    assert len(str(refused.value)) < 600
    assert peak < _MOST_BYTES
