"""Models from elsewhere: what is taken, and that everything else is refused."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

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
    assert json.loads(checked.rewritten["config.json"]) == hostile.CONFIG | {"dtype": "float32"}
    assert checked.as_is == ["model.safetensors", "tokenizer.json"]
    assert checked.left_out == ["README.md"]
    assert checked.limits == {"context_length": 64, "vocabulary_size": 16}
    assert checked.parameters == 16 * 8 + 2 * 64 + 2 * 32 + 3 * 96 + 3 * 8


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_the_type_of_the_weights_is_that_of_most_parameters_whatever_the_config_has(field: str) -> None:
    told = hostile.header()
    told["model.norm.weight"] |= {"dtype": "F64", "shape": [8], "data_offsets": [0, 64]}
    at = 64
    for name, shape in hostile.SHAPES.items():
        if name != "model.norm.weight":
            size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            told[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
            at += size
    files = hostile.config(**{field: "bfloat16"}) | {"model.safetensors": hostile.safetensors(told)}
    assert json.loads(check_model(pieces(files)).rewritten["config.json"]) == hostile.CONFIG | {"dtype": "float16"}


SAMPLED = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.05}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({**SAMPLED, "eos_token_id": [2, 3]}, {**SAMPLED, "eos_token_id": [2, 3], "bos_token_id": 1}),
        (SAMPLED, {**SAMPLED, "bos_token_id": 1, "eos_token_id": 2}),
        ({**SAMPLED, "do_sample": False}, {"do_sample": False, "repetition_penalty": 1.05, "bos_token_id": 1, "eos_token_id": 2}),
        ({"cache_implementation": "evil", "max_length": 9, "top_p": None}, {"bos_token_id": 1, "eos_token_id": 2}),
    ],
)  # fmt: skip
def test_end_tokens_and_sampling_are_kept_as_transformers_can_save_them(
    given: dict[str, Any], kept: dict[str, Any], tmp_path: Path
) -> None:
    files = hostile.config(bos_token_id=1, eos_token_id=2) | {"generation_config.json": json.dumps(given).encode()}
    content = check_model(pieces(files)).rewritten["generation_config.json"]
    assert json.loads(content) == kept
    (tmp_path / "generation_config.json").write_bytes(content)
    GenerationConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)


def test_the_licence_and_its_notices_are_kept() -> None:
    texts = ["LICENSE", "LICENSE.txt", "LICENSE-MODEL.md", "NOTICE", "USE_POLICY.md"]
    files = hostile.model(**dict.fromkeys([*texts, "LICENSE.pdf", "README__md"], b"text"))
    files["NOTICE.txt"] = bytes((256 << 10) + 1)
    checked = check_model(pieces(files))
    assert checked.as_is == sorted([*texts, "model.safetensors", "tokenizer.json"])
    assert checked.left_out == ["LICENSE.pdf", "NOTICE.txt", "README.md"]


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
