"""Small JSON files from outside: capped in size, and parsed more strictly than by Python's json."""

import codecs
import json
import re
from typing import Any

from engine.imports.fault import ImportFault, shown
from engine.imports.piece import Piece

_MAX_DEPTH = 16
_MAX_BRACKETS, _MAX_QUOTES = 2_000_000, 8_000_000
"""Over twice those of the largest vocabularies; checking each of them takes time."""
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_TOKENS = re.compile(rb"(" + _STRING + rb')|([{\[])|([}\]])|"', re.DOTALL)


def read_document(name: str, piece: Piece, most_bytes: int) -> dict[str, Any]:
    """Parse a file that holds a JSON object.

    Raises:
        ImportFault: it is too large or nests too deep, is not a JSON object, or has a key twice.
    """
    content = whole(name, piece, most_bytes)
    require_shallow(name, content, _MAX_DEPTH)
    try:
        value = json.loads(content, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ImportFault("not_json", name, f"is not JSON: {shown(str(error))}", "save the model again") from error
    if not isinstance(value, dict):
        raise ImportFault("not_an_object", name, "is not a JSON object", "save the model again")
    return value


def whole(name: str, piece: Piece, most_bytes: int) -> bytes:
    """Return the bytes of a file that must be small, and UTF-8."""
    if piece.size_bytes > most_bytes:
        fault = f"has {piece.size_bytes:,} bytes; {most_bytes:,} at most are read"
        raise ImportFault("too_large", name, fault, "send the file that the model came with")
    decoder = codecs.getincrementaldecoder("utf-8")()  # as one str, one emoji would make all characters take 4 bytes
    try:
        for chunk in piece.chunks():
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise ImportFault("not_utf8", name, "is not UTF-8", "save the model again") from error
    return piece.read(0, piece.size_bytes)


def require_shallow(name: str, content: bytes, most: int) -> None:
    """Raise ImportFault unless the brackets of a JSON text match and nest at most `most` deep; builds no objects."""
    if content.count(b"[") + content.count(b"{") > _MAX_BRACKETS or content.count(b'"') > _MAX_QUOTES:
        raise ImportFault("too_many_parts", name, "has millions of parts", "send the file that the model came with")
    depth = 0
    for token in _TOKENS.finditer(content):
        if token[1]:
            continue
        if not token[2] and not token[3]:
            raise ImportFault(
                "not_json", name, f"has a string without an end at byte {token.start():,}", "save it again"
            )
        depth += 1 if token[2] else -1
        if depth > most:
            fault = f"nests deeper than {most} levels at byte {token.start():,}"
            raise ImportFault("too_deep", name, fault, "send the file that the model came with")
        if depth < 0:
            break
    if depth:
        raise ImportFault("not_json", name, "has brackets that do not match", "save the model again")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"{shown(twice)} is there twice")
    return found
