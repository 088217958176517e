"""One part on its way into the blob store."""

from api.errors import ApiError
from api.files.form import Form
from api.files.upload import invalid_field
from db.blobs import Blob, BlobStore, BlobWriter


class Part:
    """Takes the chunks of one request body, whose only field is `data`. Used from one thread at a time."""

    def __init__(self, blobs: BlobStore, content_type: str, most_bytes: int) -> None:
        self._blobs = blobs
        self._most_bytes = most_bytes
        self._writer: BlobWriter | None = None
        self._form = Form(content_type, self)

    def feed(self, chunk: bytes) -> None:
        self._form.feed(chunk)

    def finish(self) -> Blob:
        """Stores it. Raises ApiError when something is missing."""
        self._form.finish()
        if self._writer is None:
            raise invalid_field("data", "missing", "is required", None)
        blob = self._writer.commit()
        self._writer = None
        return blob

    def close(self) -> None:
        """Leaves nothing behind of a part that did not finish."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def begin(self, field: str, filename: bytes) -> None:  # noqa: ARG002 - the upload has a name already
        if field != "data":
            raise invalid_field(field[:100], "unknown_key", "unknown field", "known: data")
        if self._writer is not None:
            raise invalid_field("data", "duplicate", "is there twice", None)
        self._writer = self._blobs.writer()

    def take(self, data: bytes) -> None:
        assert self._writer is not None, "a field has begun"
        require_room(self._writer.size_bytes + len(data), self._most_bytes)
        self._writer.write(data)

    def end(self) -> None:
        """All of it is stored at the end of the body."""


def require_room(size_bytes: int, most_bytes: int) -> None:
    """Raises ApiError 413 for a part that is too large."""
    if size_bytes > most_bytes:
        message = f"the upload was announced with fewer bytes: at most {most_bytes:,} more fit in"
        raise ApiError(413, "upload_too_large", message, param="data")
