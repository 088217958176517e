"""The export itself: a GGUF file is written beside its path, read back, and renamed only if all tensors are right."""

import base64
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import gguf
import numpy as np

from engine.gguf.vocabulary import add_vocabulary
from engine.gguf.weights import ARCHITECTURES, Weight, require_known, rope_base, weights
from engine.imports import ImportFault, Piece, check_model
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
_MANIFEST = "manifest.dsse.json"
_MAX_MANIFEST_BYTES = 64 << 20
_IN_MEMORY_BYTES = 256 << 20


def write_gguf(folder: Path, out: Path, kind: str) -> dict[str, Any]:
    """Write the model in `folder` to `out`; returns its number of tensors and their largest relative rounding error.

    Raises:
        ImportFault: the folder has no model, one that is not supported, or a value that the type cannot hold.
    """
    with ExitStack() as stack:
        paths = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _READ]
        files = {path.name: _piece(stack, path) for path in paths}
        check_model(files)
        config = _config(files["config.json"])
        part = out.with_name(out.name + ".part")
        try:
            with SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(out.parent)) as spool:
                writer = _writer(part, config)
                writer.temp_file = spool  # gguf's own would be in TMPDIR, which may be memory, or too small for a model
                _add_origin(writer, files, out.stem)
                _write(writer, folder, config, files, kind)
            result = _read_back(part, config, files, kind)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    return {"file": str(out), "type": kind, "size_bytes": out.stat().st_size, **result}


def check_writable(folder: Path) -> None:
    """Check the config and tokenizer in `folder`; its weights need not be there yet.

    Raises:
        ImportFault: such a model cannot be written as GGUF.
    """
    with ExitStack() as stack:
        config = _config(_piece(stack, folder / "config.json"))
    add_vocabulary(_writer(None, config), folder, config.vocab_size)


def _config(piece: Piece) -> Decoder:
    return require_known(read_config(read_document("config.json", piece, _MAX_CONFIG_BYTES)))


def _piece(stack: ExitStack, path: Path) -> Piece:
    return Piece(stack.enter_context(path.open("rb")), 0, path.stat().st_size)


def _writer(part: Path | None, config: Decoder) -> gguf.GGUFWriter:
    architecture = gguf.MODEL_ARCH_NAMES[ARCHITECTURES[config.model_type]]  # pyright: ignore[reportAttributeAccessIssue]
    return gguf.GGUFWriter(part, architecture, use_temp_file=True)


def _add_origin(writer: gguf.GGUFWriter, files: Mapping[str, Piece], name: str) -> None:
    """Write the model's name and licence, from the signed manifest if the folder was pulled, else the name alone."""
    origin: dict[str, Any] = {}
    if _MANIFEST in files:
        envelope = read_document(_MANIFEST, files[_MANIFEST], _MAX_MANIFEST_BYTES)
        try:
            origin = json.loads(base64.b64decode(envelope["payload"]))
            name = origin["reference"]
        except (ValueError, TypeError, KeyError) as error:
            raise ImportFault("bad_manifest", _MANIFEST, "is not a signed manifest", "leave it out") from error
    writer.add_name(name)
    if licence := origin.get("licence"):
        writer.add_license(licence)


def _write(writer: gguf.GGUFWriter, folder: Path, config: Decoder, files: Mapping[str, Piece], kind: str) -> None:
    _add_shape(writer, config)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_vocabulary(writer, folder, config.vocab_size)
    for weight in weights(config, files):
        stored_as = _type_of(weight, kind)
        _require_held(weight, stored_as)
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


def _require_held(weight: Weight, stored_as: gguf.GGMLQuantizationType) -> None:
    """Raise ImportFault for a tensor with a value that is beyond the range of the type, or not a number."""
    largest = float(np.abs(weight.values).max())
    if largest <= _LARGEST[stored_as]:
        return
    if not math.isfinite(largest):
        raise ImportFault("not_finite", weight.source, "has values that are not finite numbers", "check the weights")
    mend = "write f32 or q8_0" if largest <= _LARGEST[Quantization.Q8_0] else "write f32"
    if stored_as is Quantization.F16 and weight.values.shape[-1] % _Q8_BLOCK:
        mend = "write f32"
    raise ImportFault("no_gguf", weight.source, f"has the value {largest:g}, beyond {stored_as.name.lower()}", mend)


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
_LARGEST = {
    Quantization.F32: float(np.finfo(np.float32).max),
    Quantization.F16: 65504.0,
    Quantization.Q8_0: 127 * 65504.0,
}
_FINEST = {Quantization.F32: 0.0, Quantization.F16: 2**-25, Quantization.Q8_0: 127 * 2**-25}
"""Added to it: below 2**-14 the steps of fp16 are not finer."""
