"""The tensors of safetensors files as arrays, one at a time, with GGUF's names and order of rows."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import gguf
import numpy as np
from numpy.typing import NDArray

from engine.imports import ImportFault, Piece
from engine.imports.config import Decoder
from engine.imports.header import Tensor, read_header

Floats = NDArray[np.float32]
_LENGTH_BYTES = 8
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_TURNED = ("self_attn.q_proj", "self_attn.k_proj")


class Weight(NamedTuple):
    """A tensor: `source` is its name in the model, `values` are in GGUF's order of rows."""

    source: str
    name: str
    values: Floats


def weights(config: Decoder, files: Mapping[str, Piece]) -> Iterator[Weight]:
    """Yield every tensor of the model, but not a head that is tied to the embedding, which GGUF omits.

    A head that differs from the embedding is the model's own, whatever the config has: transformers uses it too.
    """
    found = _stored(files)
    if (
        config.tie_word_embeddings
        and _HEAD in found
        and np.array_equal(_array(found[_HEAD]), _array(found[_EMBEDDING]))
    ):
        del found[_HEAD]
    names = gguf.get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)  # pyright: ignore[reportAttributeAccessIssue] - each family has it
    for source, stored in found.items():
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            continue  # a buffer, which is recomputed: check_model found all other tensors
        yield Weight(source, name, arranged(config, source, _array(stored)))


class _Stored(NamedTuple):
    """A tensor in its file, and where the bytes of the file's tensors begin."""

    piece: Piece
    start: int
    tensor: Tensor


def _stored(files: Mapping[str, Piece]) -> dict[str, _Stored]:
    """Return the tensors of all files by name, in the order of files and headers."""
    found: dict[str, _Stored] = {}
    for file in sorted(name for name in files if name.endswith(".safetensors")):
        piece = files[file]
        start = _LENGTH_BYTES + int.from_bytes(piece.read(0, _LENGTH_BYTES), "little")
        found |= {name: _Stored(piece, start, tensor) for name, tensor in read_header(file, piece).items()}
    return found


def _array(stored_as: _Stored) -> Floats:
    piece, start, tensor = stored_as
    stored = np.frombuffer(piece.read(start + tensor.begin, tensor.end - tensor.begin), _DTYPES[tensor.dtype])
    if tensor.dtype == "BF16":  # the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32).reshape(tensor.shape)


def arranged(config: Decoder, source: str, values: Floats) -> Floats:
    """Reorder Llama's queries and keys: GGUF rotates neighbouring rows, transformers the two halves of a head."""
    if ARCHITECTURES[config.model_type] is not gguf.MODEL_ARCH.LLAMA or not any(name in source for name in _TURNED):  # pyright: ignore[reportAttributeAccessIssue]
        return values
    heads = config.num_attention_heads if "q_proj" in source else config.key_value_heads
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def require_known(config: object) -> Decoder:
    """Raise ImportFault for a model whose positions or layers would take other GGUF fields than are written here."""
    if not isinstance(config, Decoder):
        raise _unwritten("model_type", "is gpt2", "Llama, Mistral, Qwen2 and Qwen3 can be written")
    for field in ("rope_parameters", "rope_scaling"):
        rope = getattr(config, field)
        kind = None if rope is None else rope.rope_type or rope.type
        if kind not in {None, "default"}:
            raise _unwritten(f"{field}.rope_type", f"is {kind}", "models with plain rotary positions can be written")
    if getattr(config, "use_sliding_window", False):
        raise _unwritten("use_sliding_window", "is true", "models whose layers attend to the whole row can be written")
    return config


def rope_base(config: Decoder) -> float:
    """Return rope_theta, from whichever field of the config has it."""
    given = [config.rope_theta, *(rope.rope_theta for rope in (config.rope_parameters, config.rope_scaling) if rope)]
    return next((value for value in given if value is not None), 10_000.0)


def _unwritten(field: str, message: str, mend: str) -> ImportFault:
    return ImportFault("no_gguf", f"config.json: {field}", message, mend)
