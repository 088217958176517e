"""A minimal tar reader: it lists the plain files by name. Nothing is extracted, and no name is used as a path.

The tarfile module reads extended headers of any size into memory and supports devices, links and sparse files, which a
model does not need.
"""

from typing import NamedTuple

from engine.imports.fault import ImportFault, shown
from engine.imports.piece import Piece

_BLOCK = 512
_MAX_MEMBERS = 2_000
_MAX_EXTENDED_BYTES = 64 << 10
_MAX_NAME_CHARACTERS = 255
_MEND = "send a plain tar of the model's folder (`tar cf model.tar folder`)"
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"\x04\x22\x4d\x18": "lz4",
}
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"L": "a name over 100 characters",
    b"K": "a link's long name",
    b"M": "a continued file",
    b"D": "a dumped folder",
    b"V": "a volume's label",
}


class _Entry(NamedTuple):
    name: str
    kind: bytes
    size_bytes: int


def members(archive: Piece) -> dict[str, Piece]:
    """Return the plain files of a tar by name, without the one folder that they may be in.

    Raises:
        ImportFault: it is not a plain tar, or holds anything but plain files in one folder.
    """
    _require_plain(archive)
    found: dict[str, Piece] = {}
    folders: set[str] = set()
    extended: dict[str, str] = {}
    at = count = 0
    while block := _block(archive, at):
        entry = _entry(block)
        count += 1
        if count > _MAX_MEMBERS:
            raise ImportFault("too_many_members", "the archive", f"holds over {_MAX_MEMBERS:,} members", _MEND)
        start = at + _BLOCK
        _require_inside(archive, entry, start)
        at = start + -(-entry.size_bytes // _BLOCK) * _BLOCK
        if entry.kind in {b"x", b"g"}:
            extended = _extended(archive, start, entry.size_bytes)
            continue
        entry, extended = _amended(archive, entry, extended, start), {}
        at = start + -(-entry.size_bytes // _BLOCK) * _BLOCK
        name = _plain_name(entry, folders)
        if name is None:
            continue
        if name in found:
            raise ImportFault("member_twice", shown(name), "is in the archive twice", _MEND)
        found[name] = Piece(archive.file, archive.start + start, entry.size_bytes)
    if not found:
        raise ImportFault("empty_archive", "the archive", "holds no files", _MEND)
    return found


def _require_plain(archive: Piece) -> None:
    head = archive.read(0, 8)
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise ImportFault("compressed", "the archive", f"is compressed ({name}); weights hardly shrink", _MEND)


def _block(archive: Piece, at: int) -> bytes | None:
    """Return the header at byte `at`; None at the end of the archive."""
    block = archive.read(at, _BLOCK)
    if not block or block == bytes(_BLOCK):
        return None
    if len(block) < _BLOCK:
        raise ImportFault("not_a_tar", "the archive", f"ends within a header at byte {at:,}", _MEND)
    blanked = block[:148] + b" " * 8 + block[156:]
    if _number(block[148:156]) != sum(blanked):
        raise ImportFault("not_a_tar", "the archive", f"has no tar header at byte {at:,}", _MEND)
    return block


def _entry(block: bytes) -> _Entry:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    whole = prefix + b"/" + name if prefix else name
    size_bytes = _number(block[124:136])
    if size_bytes is None or size_bytes < 0:
        raise ImportFault("bad_size", shown(repr(whole)), "has a size that is not a number", _MEND)
    return _Entry(_text(whole), block[156:157], size_bytes)


def _number(field: bytes) -> int | None:
    """Parse a number of octal digits, or in base 256 if the first bit is set; None if it is neither."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else None
    digits = field.strip(b" \0")
    if not digits:
        return 0
    return int(digits, 8) if all(0x30 <= digit <= 0x37 for digit in digits) else None


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise ImportFault("bad_name", shown(repr(name)), "is not UTF-8", "rename the file") from error


def _require_inside(archive: Piece, entry: _Entry, start: int) -> None:
    if start + entry.size_bytes > archive.size_bytes:
        left = archive.size_bytes - start
        fault = f"has {entry.size_bytes:,} bytes by its header, and the archive has {left:,} left"
        raise ImportFault("member_cut", shown(entry.name), fault, "make the archive again")


def _extended(archive: Piece, start: int, size_bytes: int) -> dict[str, str]:
    """Parse the records of a pax header: each is its own length, a blank, and `key=value` with a line end."""
    if size_bytes > _MAX_EXTENDED_BYTES:
        fault = f"has an extended header of {size_bytes:,} bytes; {_MAX_EXTENDED_BYTES:,} at most are read"
        raise ImportFault("extended_header_too_large", "the archive", fault, _MEND)
    left, found = archive.read(start, size_bytes), {}
    while left:
        digits, _, _ = left.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) <= 6 else 0
        record = left[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise ImportFault("bad_extended_header", "the archive", "has an extended header that cannot be read", _MEND)
        found[_text(key)] = _text(value[:-1])
        left = left[length:]
    return found


def _amended(archive: Piece, entry: _Entry, extended: dict[str, str], start: int) -> _Entry:
    """Return the entry with the name and size of the extended header before it."""
    if any(key.startswith("GNU.sparse") for key in extended):
        raise ImportFault("not_plain", shown(entry.name), "is a sparse file", _MEND)
    size = extended.get("size", str(entry.size_bytes))
    if not (size.isascii() and size.isdecimal() and len(size) < 20):
        raise ImportFault("bad_size", shown(entry.name), "has a size that is not a number", _MEND)
    amended = entry._replace(name=extended.get("path", entry.name), size_bytes=int(size))
    _require_inside(archive, amended, start)
    return amended


def _plain_name(entry: _Entry, folders: set[str]) -> str | None:
    """Return the name of a plain file; None for a folder and for the companion files that macOS adds (`._name`)."""
    if entry.kind not in {b"0", b"\0", b"5"}:
        what = _KINDS.get(entry.kind, f"of the unknown kind {shown(repr(entry.kind))}")
        raise ImportFault("not_plain", shown(entry.name), f"is {what}", _MEND)
    if len(entry.name) > _MAX_NAME_CHARACTERS:
        fault = f"has a name of {len(entry.name):,} characters; {_MAX_NAME_CHARACTERS} at most are taken"
        raise ImportFault("bad_name", shown(entry.name), fault, "rename the file")
    parts = entry.name.split("/")
    if parts[0] == ".":
        parts = parts[1:]
    if parts and parts[-1] == "":  # a folder's name ends in a slash
        parts = parts[:-1]
    if entry.name.startswith("/") or any(part in {"", ".", ".."} for part in parts) or "\\" in entry.name:
        raise ImportFault("bad_name", shown(entry.name), "is not a name inside a folder", _MEND)
    if not entry.name.isprintable():
        raise ImportFault("bad_name", shown(entry.name), "has unprintable characters", "rename the file")
    if entry.kind == b"5":
        return None
    if not parts or len(parts) > 2:
        raise ImportFault("bad_name", shown(entry.name), "lies in a folder of a folder", _MEND)
    folders.add("/".join(parts[:-1]))
    if len(folders) > 1:
        raise ImportFault("two_folders", shown(entry.name), "lies in another folder than the files before it", _MEND)
    return None if parts[-1].startswith("._") else parts[-1]
