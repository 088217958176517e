"""The header of a safetensors file: which tensors it holds, and the check that they cover its bytes exactly.

The format is 8 bytes with the header's length, the header (JSON), and the tensors' bytes without a gap.
"""

import json
import re
from typing import Any, NamedTuple

from engine.imports.fault import ImportFault, shown
from engine.imports.piece import Piece

MAX_HEADER_BYTES = 8 << 20
MAX_TENSORS = 50_000
_MAX_DIMENSIONS = 8
_MAX_ENTRY_BYTES = 4096
_MAX_QUOTES = 16 * MAX_TENSORS
"""The entry of a tensor has ten."""
_LENGTH_BYTES = 8
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# Entries are parsed one by one: as Python objects, the whole header would take twenty times its bytes.
_ENTRY = re.compile(rb"\s*(" + _STRING + rb')\s*:\s*(\{(?:[^{}"]++|' + _STRING + rb")*+\})\s*([,}])", re.DOTALL)
_MEND = "save the model again with safetensors"


class Tensor(NamedTuple):
    """A tensor of a file: its type by safetensors' name, its shape, and the range of its bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(name: str, piece: Piece) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        ImportFault: the header is too large or malformed, or the tensors do not cover the bytes after it exactly.
    """
    length = int.from_bytes(piece.read(0, _LENGTH_BYTES), "little")
    if piece.size_bytes < _LENGTH_BYTES + 2:
        raise ImportFault("not_safetensors", name, "is too short for a safetensors file", _MEND)
    if length > MAX_HEADER_BYTES:
        fault = f"has a header of {length:,} bytes; {MAX_HEADER_BYTES:,} at most are read"
        raise ImportFault("header_too_large", name, fault, "a file of another format? send safetensors alone")
    if _LENGTH_BYTES + length > piece.size_bytes:
        fault = f"announces a header of {length:,} bytes, and the file has {piece.size_bytes:,}"
        raise ImportFault("header_cut", name, fault, "send the file again")
    tensors = _tensors(name, piece.read(_LENGTH_BYTES, length))
    _require_laid_out(name, tensors, piece.size_bytes - _LENGTH_BYTES - length)
    return tensors


def _tensors(name: str, header: bytes) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    described = False
    if not header.startswith(b"{"):
        raise ImportFault("bad_header", name, "has a header that is not a JSON object", _MEND)
    if header.count(b'"') > _MAX_QUOTES:
        raise ImportFault("too_many_tensors", name, "has a header of too many parts", "merge its shards")
    at, more = 1, header.strip() != b"{}"
    while more:
        entry = _ENTRY.match(header, at)
        if entry is None:
            raise ImportFault("bad_header", name, f"has a header that is malformed at its byte {at:,}", _MEND)
        key, value = _text(name, entry[1]), entry[2]
        if key == "__metadata__" and not described:
            described = True
        elif key in found or key == "__metadata__":
            raise ImportFault("tensor_twice", f"{name}: {shown(key)}", "is in the header twice", _MEND)
        elif len(found) >= MAX_TENSORS:
            raise ImportFault("too_many_tensors", name, f"holds over {MAX_TENSORS:,} tensors", "merge its shards")
        else:
            found[key] = _tensor(f"{name}: {shown(key)}", value)
        at, more = entry.end(), entry[3] == b","
    if header[at:].strip() not in {b"", b"}"}:
        raise ImportFault("bad_header", name, "has something after the end of its header's object", _MEND)
    return found


def _text(name: str, key: bytes) -> str:
    try:
        return json.loads(key)
    except ValueError as error:
        raise ImportFault(
            "bad_header", name, f"has a tensor name in its header that is not a string: {error}", _MEND
        ) from error


def _tensor(place: str, text: bytes) -> Tensor:
    try:
        entry: Any = json.loads(text) if len(text) <= _MAX_ENTRY_BYTES else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ImportFault("bad_tensor", place, "is not described by dtype, shape and data_offsets", _MEND)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ImportFault("bad_dtype", place, f"has the dtype {shown(dtype)}", f"known are {', '.join(_BYTES)}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ImportFault("bad_shape", place, f"has the shape {shown(shape)}", _MEND)
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ImportFault("bad_offsets", place, f"has the data_offsets {shown(offsets)}", _MEND)
    tensor = Tensor(dtype, tuple(shape), *offsets)
    size_bytes = _BYTES[dtype]
    for length in shape:
        size_bytes *= length
    if tensor.end - tensor.begin != size_bytes:
        fault = f"takes {tensor.end - tensor.begin:,} bytes; {dtype} of shape {shown(shape)} takes {size_bytes:,}"
        raise ImportFault("wrong_size", place, fault, _MEND)
    return tensor


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**53 for each in value)


def _require_laid_out(name: str, tensors: dict[str, Tensor], data_bytes: int) -> None:
    """Check that the tensors follow each other without gaps from the first byte to the last."""
    at = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != at:
            what = (
                "begins within another tensor" if tensor.begin < at else "has bytes before it that belong to no tensor"
            )
            raise ImportFault("bad_offsets", f"{name}: {shown(key)}", what, _MEND)
        at = tensor.end
    if at != data_bytes:
        fault = f"has {data_bytes:,} bytes after its header, and its tensors take {at:,}"
        raise ImportFault("wrong_size", name, fault, "send the file again, or save the model again")
