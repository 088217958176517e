"""The export itself: a GGUF file is written beside its path, read back, and renamed only if all tensors are right."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from engine.gguf.vocabulary import add_vocabulary
from engine.gguf.weights import ARCHITECTURES, Weight, require_known, rope_base, weights
from engine.imports import Piece, check_model
from engine.imports.config import Decoder, read_config
from engine.imports.documents import read_document

Quantization = gguf.GGMLQuantizationType
TYPES = {"f32": Quantization.F32, "f16": Quantization.F16, "q8_0": Quantization.Q8_0}
_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
_Q8_BLOCK = 32
_MAX_CONFIG_BYTES = 1 << 20
_READ = (".json", ".jinja", ".safetensors")


def write_gguf(folder: Path, out: Path, kind: str) -> dict[str, Any]:
    """Write the model in `folder` to `out`; returns its number of tensors and their largest relative rounding error.

    Raises:
        ImportFault: the folder has no model, or one that is not supported.
    """
    with ExitStack() as stack:
        paths = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _READ]
        files = {path.name: _piece(stack, path) for path in paths}
        check_model(files)
        config = require_known(read_config(read_document("config.json", files["config.json"], _MAX_CONFIG_BYTES)))
        part = out.with_name(out.name + ".part")
        try:
            _write(part, folder, config, files, kind)
            result = _read_back(part, config, files, kind)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    return {"file": str(out), "type": kind, "size_bytes": out.stat().st_size, **result}


def _piece(stack: ExitStack, path: Path) -> Piece:
    return Piece(stack.enter_context(path.open("rb")), 0, path.stat().st_size)


def _write(part: Path, folder: Path, config: Decoder, files: Mapping[str, Piece], kind: str) -> None:
    architecture = gguf.MODEL_ARCH_NAMES[ARCHITECTURES[config.model_type]]  # pyright: ignore[reportAttributeAccessIssue]
    writer = gguf.GGUFWriter(part, architecture, use_temp_file=True)
    _add_shape(writer, config)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_vocabulary(writer, folder, config.vocab_size)
    for weight in weights(config, files):
        stored_as = _type_of(weight, kind)
        writer.add_tensor(weight.name, gguf.quantize(weight.values, stored_as), raw_dtype=stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: Decoder) -> None:
    window = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None  # pyright: ignore[reportAttributeAccessIssue]
    # llama.cpp has no sliding window for this architecture: it is right only for rows within the window.
    positions = config.max_position_embeddings
    writer.add_context_length(positions if window is None else min(window, positions))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.key_value_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(rope_base(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _type_of(weight: Weight, kind: str) -> gguf.GGMLQuantizationType:
    """Return the stored type of a tensor: vectors stay in f32; f16 for matrices that blocks of 32 do not fit."""
    if weight.values.ndim == 1:
        return Quantization.F32
    if kind == "q8_0" and weight.values.shape[-1] % _Q8_BLOCK:
        return Quantization.F16
    return TYPES[kind]


def _read_back(part: Path, config: Decoder, files: Mapping[str, Piece], kind: str) -> dict[str, Any]:
    """Read the file with gguf's own reader, and compare every tensor with the model's."""
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(part).tensors}
    count, worst = 0, 0.0
    for weight in weights(config, files):
        tensor = found.pop(weight.name)
        stored_as = _type_of(weight, kind)
        assert tensor.tensor_type == stored_as, f"{weight.name} is of {tensor.tensor_type.name}"
        assert tuple(reversed(tensor.shape.tolist())) == weight.values.shape, f"{weight.name} has another shape"
        values = gguf.dequantize(tensor.data, stored_as).reshape(weight.values.shape)
        gap = float(np.abs(values - weight.values).max())
        largest = float(np.abs(weight.values).max())
        most = _ROUNDING[stored_as] * largest + _FINEST[stored_as]
        assert gap <= most, f"{weight.name} is off by {gap:g} where {largest:g} is the largest"
        count, worst = count + 1, max(worst, gap / largest if largest else 0.0)
    assert not found, f"the file has {min(found)}, and the model does not"
    return {"tensors": count, "largest_rounding": worst}


_ROUNDING = {Quantization.F32: 0.0, Quantization.F16: 2**-11, Quantization.Q8_0: 0.57 / 127}
"""The bound on rounding, relative to the largest value: half a step of the type. Q8_0 adds the rounding of its scale to
fp16, 127 times: 0.5 + 127 / 2**11."""
_FINEST = {Quantization.F32: 0.0, Quantization.F16: 2**-25, Quantization.Q8_0: 127 * 2**-25}
"""Added to it: below 2**-14 the steps of fp16 are not finer."""
