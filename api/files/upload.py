"""Multipart uploads, checked and written to the blob store while they stream in."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

from api.errors import ApiError, Fault
from api.files.form import Form
from api.settings import ApiSettings
from db.blobs import Blob, BlobStore, BlobWriter
from engine.rows import PURPOSES, Report, RowChecker, did_you_mean
from engine.rows.formats import excerpt

_FIELDS = ("purpose", "file", "expires_after[anchor]", "expires_after[seconds]")
MODEL_PURPOSE = "model"
"""The purpose of a file of a model, or a tar of all of them; it is checked when the model is imported."""
STORED_AS_IS = ("assistants", "batch", "vision", "user_data", MODEL_PURPOSE)
"""Purposes of files whose rows are not checked: OpenAI's that no job here reads, and models."""
ALL_PURPOSES = (*PURPOSES, *STORED_AS_IS)
EXPIRES_AFTER_S = (3600, 2_592_000)
_MAX_FIELD_BYTES = 256
_MAX_FILENAME_LENGTH = 255


class Received(NamedTuple):
    """A complete upload without faults."""

    filename: str
    purpose: str
    blob: Blob
    format: str
    row_count: int
    expires_after_s: int | None


class Upload:
    """Stores the file in the chunks of one request body. To be used from one thread at a time."""

    def __init__(
        self, blobs: BlobStore, settings: ApiSettings, content_type: str, require_storage: Callable[[int], None]
    ) -> None:
        self._blobs = blobs
        self._settings = settings
        self._require_storage = require_storage
        self._writer: BlobWriter | None = None
        self._checkers: dict[str, RowChecker] = {}
        self._filename = ""
        self._purpose: str | None = None
        self._size_bytes = 0
        self._field = ""
        self._seen: set[str] = set()
        self._text = bytearray()
        self._expiry: dict[str, str] = {}
        self._form = Form(content_type, self)

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            ApiError: the body is not what this route accepts.
            LowSpace: the disk is nearly full.
        """
        self._form.feed(chunk)

    def finish(self) -> Received:
        """Store the file, after the last byte of the body.

        Raises:
            ApiError: something is missing, the file has faults, or there is no room for it in the budget.
        """
        self._form.finish()
        if self._purpose is None:
            raise invalid_field("purpose", "missing", "is required", None)
        if self._writer is None:
            raise invalid_field("file", "missing", "is required", None)
        expires_after_s = _expires_after_s(self._expiry)
        row_format, row_count = self._rows(self._purpose)
        self._require_storage(self._size_bytes)
        blob = self._writer.commit()
        self._writer = None
        return Received(self._filename, self._purpose, blob, row_format, row_count, expires_after_s)

    def _rows(self, purpose: str) -> tuple[str, int]:
        """Return the format of the rows and their number."""
        if purpose in STORED_AS_IS:
            return "unchecked", 0
        report = self._checkers[purpose].finish()
        if report.fault_count or report.format is None:
            raise invalid_file(report)
        return report.format, report.row_count

    def close(self) -> None:
        """Remove what an unfinished upload has written."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def begin(self, field: str, filename: bytes) -> None:
        self._text.clear()
        self._field = field
        if field not in _FIELDS:
            near = did_you_mean(field[:100], list(_FIELDS))
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(_FIELDS)}"
            raise invalid_field(excerpt(field), "unknown_key", "unknown field", hint)
        if field in self._seen:
            raise invalid_field(field, "duplicate", "is there twice", None)
        self._seen.add(field)
        if field == "file":
            self._begin_file(filename)

    def _begin_file(self, name: bytes) -> None:
        self._filename = plain_name(name)
        # Until the purpose is known, the rows are checked for every one.
        purposes = [purpose for purpose in PURPOSES if self._purpose in {None, purpose}]
        limit = self._settings.max_line_bytes
        self._checkers = {
            purpose: RowChecker(purpose=purpose, filename=self._filename, max_line_bytes=limit) for purpose in purposes
        }
        self._writer = self._blobs.writer()

    def take(self, data: bytes) -> None:
        if self._field != "file" or self._writer is None:
            self._text += data
            if len(self._text) > _MAX_FIELD_BYTES:
                raise invalid_field(self._field, "too_long", f"is longer than {_MAX_FIELD_BYTES} bytes", None)
            return
        self._size_bytes += len(data)
        if self._size_bytes > self._settings.max_upload_bytes:
            limit = self._settings.max_upload_bytes
            raise ApiError(413, "file_too_large", f"the file is larger than {limit:,} bytes", param="file")
        self._writer.write(data)
        for checker in self._checkers.values():
            checker.feed(data)

    def end(self) -> None:
        if self._field == "file":
            return
        text = self._text.decode(errors="replace")
        if self._field != "purpose":
            self._expiry[self._field] = text
            return
        if text not in ALL_PURPOSES:
            near = did_you_mean(text, list(ALL_PURPOSES))
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(ALL_PURPOSES)}"
            raise invalid_field("purpose", "unknown_value", f"{excerpt(text)!r} is not a purpose", hint)
        self._purpose = text


def _expires_after_s(expiry: dict[str, str]) -> int | None:
    """Return the seconds that the two fields of `expires_after` set."""
    if not expiry:
        return None
    anchor, seconds = (expiry.get(f"expires_after[{part}]", "") for part in ("anchor", "seconds"))
    least, most = EXPIRES_AFTER_S
    if anchor != "created_at":
        raise invalid_field("expires_after[anchor]", "unknown_value", "must be created_at", None)
    if not (seconds.isascii() and seconds.isdecimal() and least <= int(seconds) <= most):
        raise invalid_field("expires_after[seconds]", "invalid_value", f"must be between {least} and {most}", None)
    return int(seconds)


def plain_name(name: bytes) -> str:
    """Return the last part of a file's name, which is only shown and never used as a path."""
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise invalid_field("file", "invalid_filename", "the file's name is not UTF-8", None) from error
    text = PurePosixPath(text.replace("\\", "/")).name or "upload"
    if len(text) > _MAX_FILENAME_LENGTH or not text.isprintable():
        message = f"the file's name has unprintable characters, or more than {_MAX_FILENAME_LENGTH}"
        raise invalid_field("file", "invalid_filename", message, None)
    return text


def invalid_field(field: str, code: str, message: str, hint: str | None) -> ApiError:
    """Return the error for a field of a form."""
    fault = Fault(code=code, path=field, message=message, hint=hint)
    summary = f"{field}: {message}" + (f"; {hint}" if hint else "")
    return ApiError(422, code, summary, param=field, faults=[fault])


def invalid_file(report: Report) -> ApiError:
    """Return the error for a file with faulty rows."""
    faults = [Fault(**fault._asdict()) for fault in report.faults]
    first = faults[0]
    where = f"line {first.line}" + (f", column {first.column}" if first.column else "")
    count = report.fault_count
    found = f"the file has {count:,} faults; the first" if count > 1 else "the file has a fault"
    message = f"{found} ({where}): {first.message}" + (f"; {first.hint}" if first.hint else "")
    return ApiError(400, "invalid_file", message, param="file", faults=faults, counts=report.counts_by_code)
