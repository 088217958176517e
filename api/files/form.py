"""Multipart bodies, parsed field by field while they stream in, without being held in memory."""

from collections.abc import Callable
from typing import Protocol

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from api.errors import ApiError


class Fields(Protocol):
    """A receiver of the fields of a form."""

    def begin(self, field: str, filename: bytes) -> None: ...

    def take(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Form:
    """Parses the chunks of one request body, and hands the fields in them to `fields`."""

    def __init__(self, content_type: str, fields: Fields) -> None:
        self._fields = fields
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self.complete = False
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._collect_into(self._header),
                "on_header_value": self._collect_into(self._value),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": fields.end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body.

        Raises:
            ApiError: the body is not what this route accepts.
            LowSpace: the disk is nearly full.
        """
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise ApiError(400, "not_multipart", f"the body is not multipart/form-data: {error}") from error

    def finish(self) -> None:
        """Note the end of the body. Raises ApiError 400 when it is incomplete."""
        if not self.complete:
            raise ApiError(400, "incomplete_body", "the body ends before its last part does")

    def _collect_into(self, buffer: bytearray) -> Callable[[bytes, int, int], None]:
        def collect(data: bytes, start: int, end: int) -> None:
            buffer.extend(data[start:end])

        return collect

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._fields.begin(options.get(b"name", b"").decode(errors="replace"), options.get(b"filename", b"upload"))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._fields.take(data[start:end])

    def _on_end(self) -> None:
        self.complete = True


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        given = kind.decode(errors="replace")[:100] or "a body without content type"
        raise ApiError(415, "unsupported_media_type", f"this route reads multipart/form-data, not {given}")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 256:
        raise ApiError(400, "not_multipart", "the content type has no boundary of 1 to 256 characters")
    return boundary
