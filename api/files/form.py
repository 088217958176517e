"""A multipart body as it streams in, field by field; nothing of it is held."""

from collections.abc import Callable
from typing import Protocol

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from api.errors import ApiError


class Fields(Protocol):
    """Who takes the fields of a form."""

    def begin(self, field: str, filename: bytes) -> None: ...

    def take(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Form:
    """Reads the chunks of one request body and tells `fields` what is in them."""

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
        """Takes the next bytes of the body.

        Raises:
            ApiError: the body is not what this route takes.
            LowSpace: the disk is nearly full.
        """
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise ApiError(400, "not_multipart", f"the body is not multipart/form-data: {error}") from error

    def finish(self) -> None:
        """The last byte has come. Raises ApiError 400 when it should not have been the last."""
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
        told = kind.decode(errors="replace")[:100] or "a body of no content type"
        raise ApiError(415, "unsupported_media_type", f"this route reads multipart/form-data, not {told}")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 256:
        raise ApiError(400, "not_multipart", "the content type names no boundary")
    return boundary
