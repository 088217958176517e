"""Blobs in a bucket of any S3-compatible store."""

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from db.blobs import CHUNK_BYTES, BlobStore, disk_full_errors, is_sha256
from db.errors import BlobsUnavailable, Damaged

if TYPE_CHECKING:
    from obstore import ObjectMeta

_PART_BYTES = 8 << 20
"""A larger blob is uploaded in parts of this size, several at a time."""
_GIVE_UP_AFTER = timedelta(seconds=20)


class Bucket(BlobStore):
    """Blobs as objects `prefix/ab/cd/abcd...`, which appear whole or not at all.

    A blob is written to `root/tmp` first, because its name is known only with its last byte; it takes disk space there
    until it has been uploaded. Reading a whole blob raises Damaged if its bytes do not match its name. S3 has no
    conditional removal: a blob that is stored again between the last check of a sweep and its removal, one request
    later, is lost. A blob stored within the last `fresh_s` is not stored again, and a sweep removes only blobs that are
    twice as old. Methods raise db.errors.BlobsUnavailable if the bucket cannot be reached for 20 s.
    """

    has_files = False

    def __init__(self, root: Path, store: S3Store, low_space_bytes: int, fresh_s: float) -> None:
        super().__init__(root, low_space_bytes)
        self._store = store
        self._fresh_s = fresh_s

    def exists(self, sha256: str) -> bool:
        return self._stored_at(sha256) is not None

    def open(self, sha256: str) -> BinaryIO:
        with ExitStack() as failed, disk_full_errors():
            file = failed.enter_context(tempfile.TemporaryFile(dir=self._tmp))
            self._download(sha256, file)
            file.seek(0)
            failed.pop_all()
        return file

    def chunks(self, sha256: str, span: range) -> Iterator[bytes]:
        if not span:
            return
        with _outages():
            found = obstore.get(self._store, self._key(sha256), options={"range": (span.start, span.stop)})
            for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def link_to(self, sha256: str, target: Path) -> None:
        try:
            with disk_full_errors(), target.open("xb") as file:
                self._download(sha256, file)
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            if not self._holds_any():
                raise BlobsUnavailable(
                    "the bucket holds no stored files: is it the right one, and its disk there?"
                ) from None
            raise
        target.chmod(0o444)

    def renew(self, sha256: str, size_bytes: int | None = None) -> bool:
        found = self._head(sha256)
        if found is None or size_bytes not in {None, found["size"]}:
            return False
        return time.time() - found["last_modified"].timestamp() < self._fresh_s

    def take(self, temporary: Path, sha256: str) -> None:
        with _outages():
            obstore.put(self._store, self._key(sha256), temporary, chunk_size=_PART_BYTES)
        temporary.unlink()

    def writable(self) -> bool:
        try:
            self._stored_at("0" * 64)
        except BlobsUnavailable:
            return False
        return super().writable()

    def unused_since(self, folder: str, moment: float) -> list[str]:
        with _outages():
            found = [meta for page in obstore.list(self._store, folder) for meta in page]
        names = {meta["path"].rpartition("/")[2]: meta["last_modified"].timestamp() for meta in found}
        return [name for name, stored_at in names.items() if is_sha256(name) and stored_at < moment]

    def discard(self, sha256: str, moment: float) -> bool:
        stored_at = self._stored_at(sha256)
        if stored_at is None or stored_at >= moment:
            return False
        with _outages():
            obstore.delete(self._store, self._key(sha256))
        return True

    def owner(self) -> str | None:
        try:
            with _outages():
                return bytes(obstore.get(self._store, self._owner.name).bytes()).decode()
        except FileNotFoundError:
            return None

    def _write_owner(self, installation_id: str, *, anew: bool) -> None:
        with suppress(AlreadyExistsError), _outages():
            obstore.put(self._store, self._owner.name, installation_id.encode(), mode="overwrite" if anew else "create")

    def _holds_any(self) -> bool:
        """Return whether the bucket has any blob; one that does not exist has none."""
        with suppress(FileNotFoundError), _outages():
            return any(
                is_sha256(meta["path"].rpartition("/")[2]) for page in obstore.list(self._store) for meta in page
            )
        return False

    def _key(self, sha256: str) -> str:
        return self.path(sha256).relative_to(self.root).as_posix()

    def _stored_at(self, sha256: str) -> float | None:
        """Return when the blob was stored, in Unix seconds by the bucket's clock, or None if it is not stored."""
        found = self._head(sha256)
        return None if found is None else found["last_modified"].timestamp()

    def _head(self, sha256: str) -> "ObjectMeta | None":
        try:
            with _outages():
                return obstore.head(self._store, self._key(sha256))
        except FileNotFoundError:
            return None

    def _download(self, sha256: str, file: BinaryIO) -> None:
        digest = hashlib.sha256()
        with _outages():
            for chunk in obstore.get(self._store, self._key(sha256)).stream(min_chunk_size=CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise Damaged(sha256)


def open_bucket(
    url: str,
    root: Path,
    low_space_bytes: int,
    fresh_s: float,
    *,
    endpoint: str | None,
    region: str,
    key_id: str | None,
    secret: str | None,
) -> Bucket:
    """Open the blobs below `s3://bucket/prefix`. Without a key, AWS_... variables and the machine's role are used.

    Raises:
        ValueError: the URL has another form.
    """
    bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise ValueError(f"TRAINYARD_BLOBS is {url!r}; s3://bucket or s3://bucket/prefix is expected")
    config = {"endpoint": endpoint, "region": region, "access_key_id": key_id, "secret_access_key": secret}
    store = S3Store(
        bucket,
        prefix=prefix or None,
        config={name: value for name, value in config.items() if value is not None},  # pyright: ignore[reportArgumentType]
        client_options={"allow_http": endpoint is not None, "timeout": timedelta(minutes=10)},
        retry_config={"retry_timeout": _GIVE_UP_AFTER},
    )
    return Bucket(root, store, low_space_bytes, fresh_s)


@contextmanager
def _outages() -> Iterator[None]:
    """Raise BlobsUnavailable for errors of obstore, except FileNotFoundError and AlreadyExistsError."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except BaseError as error:
        raise BlobsUnavailable(f"the blob store cannot answer: {str(error).splitlines()[0]}") from error
