"""Checks of a model's files together: which are kept, which are rewritten, and the model's limits."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.imports.config import Gpt2, kept, read_config
from engine.imports.documents import read_document
from engine.imports.fault import ImportFault, shown
from engine.imports.generation import kept_generation
from engine.imports.header import MAX_TENSORS, Tensor, read_header
from engine.imports.piece import Piece
from engine.imports.shapes import check_shapes
from engine.imports.tokenizer import check_tokenizer

_MAX_CONFIG_BYTES = 256 << 10
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
_GENERATION = "generation_config.json"
_READ = frozenset(
    {
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
        _GENERATION,
    }
)  # fmt: skip
_NOTICE = re.compile(r"(LICEN[SC]E|NOTICE|USE_POLICY)([-_][A-Za-z0-9_-]{1,40})?(\.(txt|md|rst))?")
"""Texts that licences require to be passed on with the weights."""
_MAX_NOTICE_BYTES = 256 << 10
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Files without anything that a decoder needs; the index is rewritten from the headers of the shards.
_LEFT_OUT = re.compile(
    r"README.*|LICENSE.*|LICENCE.*|NOTICE.*|USE_POLICY.*|[\w.-]+\.md|\.gitattributes|\.gitignore"
    r"|added_tokens\.json|vocab\.json|merges\.txt|tokenizer\.model|model\.safetensors\.index\.json|SHA256SUMS|manifest\.dsse\.json"
)
_PICKLED = re.compile(r".*\.(bin|pt|pth|pkl|pickle|ckpt|npy|npz|joblib|h5|msgpack|onnx|gguf)", re.IGNORECASE)
_MEND = "leave it out"


class Checked(NamedTuple):
    """A model that was checked: `as_is` names files that are kept unchanged, `rewritten` maps others to new content."""

    family: str
    as_is: list[str]
    rewritten: dict[str, bytes]
    left_out: list[str]
    limits: dict[str, int]
    parameters: int


def check_model(files: Mapping[str, Piece]) -> Checked:
    """Check a model's files, without loading anything or using a name as a path.

    Raises:
        ImportFault: the model is refused.
    """
    weights = _sorted_out(files)
    if "config.json" not in files:
        raise ImportFault("config_missing", "config.json", "is missing", "send it with the weights")
    config = read_config(read_document("config.json", files["config.json"], _MAX_CONFIG_BYTES))
    tensors = _tensors(files, weights)
    check_shapes(config, tensors)
    rewritten = check_tokenizer(files)
    rewritten["config.json"] = json.dumps(kept(config) | {"dtype": _most_common_dtype(tensors)}, indent=2).encode()
    if _GENERATION in files:
        generation = kept_generation(read_document(_GENERATION, files[_GENERATION], _MAX_CONFIG_BYTES), config)
        rewritten[_GENERATION] = json.dumps(generation, indent=2).encode()
    if weights != [_SINGLE]:
        rewritten[_INDEX] = _index(tensors)
    notices = {name for name in files if _NOTICE.fullmatch(name) and files[name].size_bytes <= _MAX_NOTICE_BYTES}
    as_is = sorted(files.keys() & {"tokenizer.json", "chat_template.jinja"} | set(weights) | notices)
    positions = config.n_positions if isinstance(config, Gpt2) else config.max_position_embeddings
    return Checked(
        config.model_type,
        as_is,
        rewritten,
        sorted(name for name in files if name not in rewritten and name not in as_is),
        {"context_length": positions, "vocabulary_size": config.vocab_size},
        sum(_count(tensor) for _, tensor in tensors.values()),
    )


def _sorted_out(files: Mapping[str, Piece]) -> list[str]:
    """Return the names of the files of weights, once every file is known."""
    weights = sorted(name for name in files if name == _SINGLE or _SHARD.fullmatch(name))
    for name in files:
        if _PICKLED.fullmatch(name):
            raise ImportFault(
                "not_safetensors", shown(name), "may run code when it is loaded, or is of another format", _MEND
            )
        if name not in _READ and name not in weights and not _LEFT_OUT.fullmatch(name):
            raise ImportFault("unknown_file", shown(name), "is not a file of a model", _MEND)
    if not weights:
        fault = "is missing, and so are shards of it (model-00001-of-00002.safetensors and so on)"
        raise ImportFault("weights_missing", _SINGLE, fault, "save the model with safetensors")
    if weights != [_SINGLE]:
        _require_all(weights)
    return weights


def _require_all(shards: list[str]) -> None:
    count = _SHARD.fullmatch(shards[-1])
    wanted = int(count[2]) if count else 0
    names = (f"model-{number:05}-of-{wanted:05}.safetensors" for number in range(1, wanted + 1))
    if len(shards) != wanted or any(shard != name for shard, name in zip(shards, names, strict=True)):
        fault = "are not one complete set of shards, or are beside model.safetensors"
        raise ImportFault("shards_missing", ", ".join(shards[:3]), fault, "send every file of the weights once")


def _tensors(files: Mapping[str, Piece], weights: list[str]) -> dict[str, tuple[str, Tensor]]:
    found: dict[str, tuple[str, Tensor]] = {}
    for file in weights:
        for name, tensor in read_header(file, files[file]).items():
            if name in found:
                fault = f"is in {found[name][0]} too"
                raise ImportFault("tensor_twice", f"{file}: {shown(name)}", fault, "save the model again")
            found[name] = (file, tensor)
        if len(found) > MAX_TENSORS:
            raise ImportFault("too_many_tensors", file, f"brings the tensors to over {MAX_TENSORS:,}", "save it again")
    return found


def _index(tensors: Mapping[str, tuple[str, Tensor]]) -> bytes:
    total = sum(tensor.end - tensor.begin for _, tensor in tensors.values())
    index: dict[str, Any] = {"metadata": {"total_size": total}}
    index["weight_map"] = {name: file for name, (file, _) in sorted(tensors.items())}
    return json.dumps(index).encode()


def _most_common_dtype(tensors: Mapping[str, tuple[str, Tensor]]) -> str:
    """Return the type that most of the parameters are stored in, which the config may have wrong."""
    parameters: Counter[str] = Counter()
    for _, tensor in tensors.values():
        if tensor.dtype in _DTYPES:
            parameters[_DTYPES[tensor.dtype]] += _count(tensor)
    return parameters.most_common(1)[0][0]


def _count(tensor: Tensor) -> int:
    count = 1
    for length in tensor.shape:
        count *= length
    return count
