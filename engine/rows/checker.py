"""A streaming checker of data files: it reports every fault with its line and column, in constant memory."""

import re
from collections import Counter
from itertools import islice
from pathlib import PurePath
from typing import Any, NamedTuple

import orjson

from engine.rows import formats
from engine.rows.depth import MAX_DEPTH, is_too_deep
from engine.rows.formats import Flaw, RowError, excerpt

MAX_LINE_BYTES = 4 * 2**20
MAX_VALUES = 100_000
"""In a row: a parsed value takes many times the memory of its text."""
MAX_FAULTS = 1000

_KEYS = {name: frozenset(keys) for name, keys in formats.KEYS.items()}
_BOM = b"\xef\xbb\xbf"
_ROW_SUFFIXES = (".jsonl", ".ndjson", ".json")
_TEXT_SUFFIXES = (".txt", ".text", ".md")
_BEFORE_A_VALUE = b",[{"
# The quantifiers are possessive: a line could be made so that backtracking takes days.
_STRING_OR_VALUE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)


class RowFault(NamedTuple):
    """A fault. `line` and `column` count from 1, lines like an editor's; `value` is an excerpt."""

    line: int
    column: int | None
    code: str
    path: str
    message: str
    value: str | None
    hint: str | None


class Report(NamedTuple):
    """The result for a file. `row_count` counts the sound rows, `fault_count` and `counts_by_code` all faults.

    `faults` lists the first of them.
    """

    format: str | None
    row_count: int
    fault_count: int
    faults: tuple[RowFault, ...]
    counts_by_code: dict[str, int]


class RowChecker:
    """Checks a file while it is read; holds one line at most, and never more than `max_line_bytes` of it."""

    def __init__(
        self, *, purpose: str, filename: str, max_line_bytes: int = MAX_LINE_BYTES, max_faults: int = MAX_FAULTS
    ) -> None:
        if purpose not in formats.PURPOSES:
            raise ValueError(f"purpose is {purpose!r}; it must be one of {', '.join(formats.PURPOSES)}")
        self._takes = formats.PURPOSES[purpose]
        self._max_line_bytes = max_line_bytes
        self._max_faults = max_faults
        self._is_text = format_of_name(filename, purpose) == "text"
        self._format: str | None = None
        self._format_line = 0
        self._pending = bytearray()
        self._oversized = False
        self._line = 0
        self._row_count = 0
        self._faults: list[RowFault] = []
        self._counts: Counter[str] = Counter()

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes of the file, of any number."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            if self._pending or self._oversized:
                self._extend(chunk, start, end)
                self._end_line()
            else:  # most lines are whole in a chunk, and copied only once
                self._take_line(chunk[start:end])
            start = end + 1
        self._extend(chunk, start, len(chunk))

    def finish(self) -> Report:
        """Return the report, after the last byte."""
        if self._pending or self._oversized:
            self._end_line()
        if not self._row_count and not self._counts:
            self._fault(1, Flaw("empty_file", "", "the file has no rows", None, "write one row a line"), None)
        return Report(
            format=self._format,
            row_count=self._row_count,
            fault_count=self._counts.total(),
            faults=tuple(self._faults),
            counts_by_code=dict(self._counts.most_common()),
        )

    def _extend(self, chunk: bytes, start: int, end: int) -> None:
        if self._oversized:
            return
        if len(self._pending) + end - start > self._max_line_bytes:
            self._oversized = True
            self._pending.clear()
        else:
            self._pending += chunk[start:end]

    def _end_line(self) -> None:
        line = bytes(self._pending)
        self._pending.clear()
        self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        self._line += 1
        if self._oversized or len(line) > self._max_line_bytes:
            self._oversized = False
            message = f"the line is longer than {self._max_line_bytes:,} bytes"
            hint = "is a line break missing?" if self._line == 1 else None
            self._fault(self._line, Flaw("line_too_long", "", message, None, hint), None)
            return
        if self._line == 1:
            line = line.removeprefix(_BOM)
        if line and not line.isspace():
            self._check_line(line)

    def _check_line(self, line: bytes) -> None:
        if self._is_text:
            if self._decoded(line) is not None:
                self._format = "text"
                self._row_count += 1
            return
        if _has_too_many_values(line):
            message = f"the row has over {MAX_VALUES:,} values"
            self._fault(self._line, Flaw("too_many_values", "", message, None, "write one row a line"), 1)
            return
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            text = self._decoded(line)
            if text is not None:
                self._not_json(text, error)
            return
        if not isinstance(row, dict):
            flaw = Flaw("not_an_object", "", "the line is not an object", excerpt(row), _shape_hint(line))
            self._fault(self._line, flaw, 1)
            return
        if is_too_deep(row):
            message = f"the row nests deeper than {MAX_DEPTH} levels"
            self._fault(
                self._line, Flaw("too_deep", "", message, None, "flatten it, or write the depths as a string"), 1
            )
            return
        self._check_row(row)

    def _decoded(self, line: bytes) -> str | None:
        nul = line.find(b"\x00")
        if nul >= 0:
            hint = "a file with NUL bytes is often UTF-16; save it as UTF-8"
            flaw = Flaw("nul_byte", "", f"the line has a NUL byte at byte {nul + 1}", "\\x00", hint)
            self._fault(self._line, flaw, len(line[:nul].decode(errors="replace")) + 1)
            return None
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            message = f"byte {error.start + 1} of the line is not UTF-8 ({error.reason})"
            value = " ".join(f"{byte:02x}" for byte in line[error.start : error.start + 4])
            hint = "save the file as UTF-8"
            flaw = Flaw("not_utf8", "", message, value, hint)
            self._fault(self._line, flaw, len(line[: error.start].decode()) + 1)
            return None

    def _not_json(self, text: str, error: orjson.JSONDecodeError) -> None:
        position = min(error.pos, len(text))
        around = text[max(0, position - 20) : position + 40].strip()
        flaw = Flaw("not_json", "", f"not JSON: {error.msg}", excerpt(around), _json_hint(text, position))
        self._fault(self._line, flaw, position + 1)

    def _check_row(self, row: dict[str, Any]) -> None:
        name = self._format
        if name is None:
            name = formats.format_of_row(row, self._takes)
            if name is None:
                self._fault(self._line, formats.misfit(row, self._takes), None)
                return
            self._format, self._format_line = name, self._line
        elif (other := self._other_format(row, name)) is not None:
            message = f"a {other} row in a file whose rows are {name} (since line {self._format_line})"
            flaw = Flaw("mixed_formats", "", message, other, "one format a file; split it into two files")
            self._fault(self._line, flaw, None)
            return
        sound = True
        for flaw in formats.flaws(row, name):
            sound = False
            self._fault(self._line, flaw, None)
        self._row_count += sound

    def _other_format(self, row: dict[str, Any], name: str) -> str | None:
        """Return the format that the row has instead of the file's, if any."""
        if row.keys() >= _KEYS[name]:
            return None
        return formats.format_of_row(row, formats.FORMATS)

    def _fault(self, line: int, flaw: Flaw, column: int | None) -> None:
        self._counts[flaw.code] += 1
        if len(self._faults) < self._max_faults:
            self._faults.append(RowFault(line, column, flaw.code, flaw.path, flaw.message, flaw.value, flaw.hint))


def format_of_name(filename: str, purpose: str) -> str | None:
    """Return `text` for a plain text file, and None for rows of JSON, whose keys decide their format."""
    suffix = PurePath(filename).suffix.lower()
    if "text" not in formats.PURPOSES[purpose] or suffix in _ROW_SUFFIXES:
        return None
    return "text" if suffix in _TEXT_SUFFIXES else None


def _has_too_many_values(line: bytes) -> bool:
    """Whether a line has over MAX_VALUES values. Most are too short, or have too few separators even within strings."""
    if len(line) <= MAX_VALUES or sum(map(line.count, _BEFORE_A_VALUE)) <= MAX_VALUES:
        return False
    values = (found for found in _STRING_OR_VALUE.finditer(line) if line[found.start()] in _BEFORE_A_VALUE)
    return next(islice(values, MAX_VALUES, None), None) is not None


def _shape_hint(line: bytes) -> str | None:
    return "write one object a line, not one list" if line.lstrip().startswith(b"[") else None


def _json_hint(text: str, position: int) -> str | None:
    rest = text[position:]
    if rest.lstrip("-").startswith(("NaN", "Infinity")):
        return "NaN and Infinity are not JSON; use null or leave the key out"
    if rest.startswith("'"):
        return "JSON strings stand in double quotes"
    if position >= len(text) - 1 and text.strip() in {"{", "[", "[{"}:
        return "write each row on one line of its own (JSON Lines), not one indented document"
    if rest.startswith("{"):
        return "two rows on one line? put a line break between them"
    return None


def read_line(line: bytes) -> dict[str, Any]:
    """Parse the row of a line.

    Raises:
        RowError: the line is not an object.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RowError(Flaw("not_json", "", f"not JSON: {error.msg}")) from error
    if not isinstance(row, dict):
        raise RowError(Flaw("not_an_object", "", "the line is not an object"))
    return row
