"""The parts of uploads, written to the blob store while they stream in."""

from collections.abc import Callable

from api.errors import ApiError
from api.files.form import Form
from api.files.upload import invalid_field
from db.blobs import Blob, BlobStore, BlobWriter


class Part:
    """Stores the field `data` of one request body. To be used from one thread at a time."""

    def __init__(
        self, blobs: BlobStore, content_type: str, most_bytes: int, require_storage: Callable[[int], None]
    ) -> None:
        self._blobs = blobs
        self._most_bytes = most_bytes
        self._require_storage = require_storage
        self._writer: BlobWriter | None = None
        self._form = Form(content_type, self)

    def feed(self, chunk: bytes) -> None:
        self._form.feed(chunk)

    def finish(self) -> Blob:
        """Store the part. Raises ApiError when something is missing, or there is no room for it in the budget."""
        self._form.finish()
        if self._writer is None:
            raise invalid_field("data", "missing", "is required", None)
        self._require_storage(self._writer.size_bytes)
        blob = self._writer.commit()
        self._writer = None
        return blob

    def close(self) -> None:
        """Remove what an unfinished part has written."""
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
        require_fits(self._writer.size_bytes + len(data), self._most_bytes)
        self._writer.write(data)

    def end(self) -> None:
        """Do nothing: the part is stored at the end of the body."""


def require_fits(size_bytes: int, most_bytes: int) -> None:
    """Raise ApiError 413 for a part that does not fit into its upload."""
    if size_bytes > most_bytes:
        message = f"the part exceeds the announced size of the upload: at most {most_bytes:,} bytes more fit"
        raise ApiError(413, "upload_too_large", message, param="data")
