"""A multipart upload on its way into the blob store, checked as it passes by; nothing is held whole."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from api.errors import ApiError, Fault
from api.settings import ApiSettings
from db.blobs import Blob, BlobStore, BlobWriter
from engine.jobs import did_you_mean
from engine.rows import PURPOSES, Report, RowChecker
from engine.rows.formats import excerpt

_FIELDS = ("purpose", "file", "expires_after[anchor]", "expires_after[seconds]")
STORED_AS_IS = ("assistants", "batch", "vision", "user_data")
"""Purposes of OpenAI's that no job here reads: such files are kept byte for byte and no row is looked at."""
ALL_PURPOSES = (*PURPOSES, *STORED_AS_IS)
EXPIRES_AFTER_S = (3600, 2_592_000)
_MAX_FIELD_BYTES = 256
_MAX_FILENAME_LENGTH = 255


class Received(NamedTuple):
    """An upload that arrived whole and has no faults."""

    filename: str
    purpose: str
    blob: Blob
    format: str
    row_count: int
    expires_after_s: int | None


class Upload:
    """Takes the chunks of one request body. Used from one thread at a time."""

    def __init__(self, blobs: BlobStore, settings: ApiSettings, content_type: str) -> None:
        self._blobs = blobs
        self._settings = settings
        self._writer: BlobWriter | None = None
        self._checkers: dict[str, RowChecker] = {}
        self._filename = ""
        self._purpose: str | None = None
        self._size_bytes = 0
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._field = ""
        self._seen: set[str] = set()
        self._text = bytearray()
        self._expiry: dict[str, str] = {}
        self._complete = False
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._collect_into(self._header),
                "on_header_value": self._collect_into(self._value),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body.

        Raises:
            ApiError: the body is not what this route takes.
            LowSpace: the disk is nearly full.
        """
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise ApiError(400, "not_multipart", f"the body is not multipart/form-data: {error}") from error

    def finish(self) -> Received:
        """Stores the file, after the last byte of the body.

        Raises:
            ApiError: something is missing, or the file has faults.
        """
        if not self._complete:
            raise ApiError(400, "incomplete_body", "the body ends before its last part does")
        if self._purpose is None:
            raise _invalid("purpose", "missing", "is required", None)
        if self._writer is None:
            raise _invalid("file", "missing", "is required", None)
        expires_after_s = _expires_after_s(self._expiry)
        row_format, row_count = self._rows(self._purpose)
        blob = self._writer.commit()
        self._writer = None
        return Received(self._filename, self._purpose, blob, row_format, row_count, expires_after_s)

    def _rows(self, purpose: str) -> tuple[str, int]:
        """What the rows are, and how many."""
        if purpose in STORED_AS_IS:
            return "unchecked", 0
        report = self._checkers[purpose].finish()
        if report.fault_count or report.format is None:
            raise invalid_file(report)
        return report.format, report.row_count

    def close(self) -> None:
        """Leaves nothing behind of an upload that did not finish."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def _collect_into(self, buffer: bytearray) -> Callable[[bytes, int, int], None]:
        def collect(data: bytes, start: int, end: int) -> None:
            buffer.extend(data[start:end])

        return collect

    def _on_part_begin(self) -> None:
        self._disposition = b""
        self._text.clear()

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode(errors="replace")
        if self._field not in _FIELDS:
            near = did_you_mean(self._field[:100], list(_FIELDS))
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(_FIELDS)}"
            raise _invalid(excerpt(self._field), "unknown_key", "unknown field", hint)
        if self._field in self._seen:
            raise _invalid(self._field, "duplicate", "is there twice", None)
        self._seen.add(self._field)
        if self._field == "file":
            self._begin_file(options.get(b"filename", b"upload"))

    def _begin_file(self, name: bytes) -> None:
        self._filename = _filename(name)
        # Until the purpose is known, any may still come.
        purposes = [purpose for purpose in PURPOSES if self._purpose in {None, purpose}]
        limit = self._settings.max_line_bytes
        self._checkers = {
            purpose: RowChecker(purpose=purpose, filename=self._filename, max_line_bytes=limit) for purpose in purposes
        }
        self._writer = self._blobs.writer()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field != "file" or self._writer is None:
            self._text += data[start:end]
            if len(self._text) > _MAX_FIELD_BYTES:
                raise _invalid(self._field, "too_long", f"is longer than {_MAX_FIELD_BYTES} bytes", None)
            return
        self._size_bytes += end - start
        if self._size_bytes > self._settings.max_upload_bytes:
            limit = self._settings.max_upload_bytes
            raise ApiError(413, "file_too_large", f"the file is larger than {limit:,} bytes", param="file")
        chunk = data[start:end]
        self._writer.write(chunk)
        for checker in self._checkers.values():
            checker.feed(chunk)

    def _on_part_end(self) -> None:
        if self._field == "file":
            return
        text = self._text.decode(errors="replace")
        if self._field != "purpose":
            self._expiry[self._field] = text
            return
        if text not in ALL_PURPOSES:
            near = did_you_mean(text, list(ALL_PURPOSES))
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(ALL_PURPOSES)}"
            raise _invalid("purpose", "unknown_value", f"{excerpt(text)!r} is no purpose", hint)
        self._purpose = text

    def _on_end(self) -> None:
        self._complete = True


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        told = kind.decode(errors="replace")[:100] or "a body of no content type"
        raise ApiError(415, "unsupported_media_type", f"this route reads multipart/form-data, not {told}")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 256:
        raise ApiError(400, "not_multipart", "the content type names no boundary")
    return boundary


def _expires_after_s(expiry: dict[str, str]) -> int | None:
    """The seconds that both fields of `expires_after` ask for."""
    if not expiry:
        return None
    anchor, seconds = (expiry.get(f"expires_after[{part}]", "") for part in ("anchor", "seconds"))
    least, most = EXPIRES_AFTER_S
    if anchor != "created_at":
        raise _invalid("expires_after[anchor]", "unknown_value", "must be created_at", None)
    if not (seconds.isascii() and seconds.isdecimal() and least <= int(seconds) <= most):
        raise _invalid("expires_after[seconds]", "invalid_value", f"must lie between {least} and {most}", None)
    return int(seconds)


def _filename(name: bytes) -> str:
    """The last part of the name, for people to read; it never becomes a path."""
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise _invalid("file", "invalid_filename", "the file's name is not UTF-8", None) from error
    text = PurePosixPath(text.replace("\\", "/")).name or "upload"
    if len(text) > _MAX_FILENAME_LENGTH or not text.isprintable():
        told = f"the file's name has unprintable characters, or more than {_MAX_FILENAME_LENGTH}"
        raise _invalid("file", "invalid_filename", told, None)
    return text


def _invalid(field: str, code: str, message: str, hint: str | None) -> ApiError:
    fault = Fault(code=code, path=field, message=message, hint=hint)
    told = f"{field}: {message}" + (f"; {hint}" if hint else "")
    return ApiError(422, code, told, param=field, faults=[fault])


def invalid_file(report: Report) -> ApiError:
    faults = [Fault(**fault._asdict()) for fault in report.faults]
    first = faults[0]
    where = f"line {first.line}" + (f", column {first.column}" if first.column else "")
    count = report.fault_count
    found = f"the file has {count:,} faults; the first" if count > 1 else "the file has a fault"
    message = f"{found} ({where}): {first.message}" + (f"; {first.hint}" if first.hint else "")
    return ApiError(400, "invalid_file", message, param="file", faults=faults, counts=report.counts_by_code)
