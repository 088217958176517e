"""What a blob store does, on a local disk and in a bucket of a real S3 server."""

import errno
import hashlib
import io
import os
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from db.blobs import Blob, BlobStore
from db.errors import BlobsUnavailable, Damaged, LowSpace
from db.settings import StorageSettings
from tests.servers import S3, free_port

HELLO = hashlib.sha256(b"hello").hexdigest()
HOUR_S = 3600.0


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    changes = {} if request.param == "local" else request.getfixturevalue("s3").settings(tmp_path.name)
    return StorageSettings(home=tmp_path, low_space_bytes=0, **changes).open_blobs()


@pytest.fixture
def bucket(s3: S3, tmp_path: Path) -> BlobStore:
    return StorageSettings(home=tmp_path, low_space_bytes=0, **s3.settings(tmp_path.name)).open_blobs()


def put(blobs: BlobStore, data: bytes) -> Blob:
    with blobs.writer() as writer:
        writer.write(data)
        return writer.commit()


def read(blobs: BlobStore, sha256: str, span: range) -> bytes:
    return b"".join(blobs.chunks(sha256, span))


def test_a_blob_is_named_by_the_hash_of_its_bytes(store: BlobStore):
    assert put(store, b"hello") == Blob(HELLO, 5)
    assert store.exists(HELLO)
    with store.open(HELLO) as file:
        assert file.read() == b"hello"


def test_an_empty_blob_can_be_stored_and_read(store: BlobStore):
    empty = put(store, b"")
    assert read(store, empty.sha256, range(0)) == b""


def test_a_large_blob_comes_back_whole_and_by_range(store: BlobStore, tmp_path: Path):
    data = os.urandom(21 << 20)  # three parts on the way up
    source = tmp_path / "source"
    source.write_bytes(data)
    blob = store.put_file(source)
    assert blob == Blob(hashlib.sha256(data).hexdigest(), len(data))
    assert read(store, blob.sha256, range(len(data))) == data
    assert read(store, blob.sha256, range(9_000_000, 9_000_010)) == data[9_000_000:9_000_010]


def test_storing_a_blob_again_gives_the_same(store: BlobStore):
    assert put(store, b"hello") == put(store, b"hello")
    assert read(store, HELLO, range(5)) == b"hello"


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_blob_of_another_size_is_replaced_when_it_is_stored_again(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
):
    changes = {} if kind == "local" else request.getfixturevalue("s3").settings(tmp_path.name)
    store = StorageSettings(home=tmp_path, low_space_bytes=0, **changes).open_blobs()
    put(store, b"hello")
    if kind == "local":
        store.path(HELLO).chmod(0o600)
        store.path(HELLO).write_bytes(b"hell")
    else:
        overwrite(request.getfixturevalue("s3"), tmp_path.name, b"hell")
    put(store, b"hello")
    assert read(store, HELLO, range(5)) == b"hello"
    assert put(store, b"hello") == Blob(HELLO, 5)


def overwrite(s3: S3, prefix: str, content: bytes) -> None:
    """Give the blob HELLO other bytes in the bucket."""
    address = f"{s3.url}/{s3.bucket}/{prefix}/{HELLO[:2]}/{HELLO[2:4]}/{HELLO}"
    signed = {"Authorization": "AWS test:signature"}  # the server looks no closer
    assert httpx.put(address, content=content, headers=signed, trust_env=False).is_success


def test_nothing_is_there_before_the_commit(store: BlobStore):
    with store.writer() as writer:
        writer.write(b"hello")
        assert not store.exists(HELLO)
    assert not store.exists(HELLO)


def test_nothing_is_left_on_the_way_in(store: BlobStore):
    put(store, b"hello")
    store.writer().abort()
    assert list((store.root / "tmp").iterdir()) == []


def test_a_blob_appears_as_a_read_only_file(store: BlobStore, tmp_path: Path):
    put(store, b"hello")
    store.link_to(HELLO, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"hello"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o444


def test_a_blob_that_is_not_stored_is_not_found(store: BlobStore, tmp_path: Path):
    put(store, b"another")
    assert not store.exists(HELLO)
    with pytest.raises(FileNotFoundError):
        store.open(HELLO)
    with pytest.raises(FileNotFoundError):
        store.link_to(HELLO, tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        read(store, HELLO, range(5))


def test_a_blob_is_discarded_once_it_is_old(store: BlobStore):
    put(store, b"hello")
    now = time.time()
    assert store.unused_since(HELLO[:2], now - HOUR_S) == []
    assert not store.discard(HELLO, now - HOUR_S)
    assert store.unused_since(HELLO[:2], now + HOUR_S) == [HELLO]
    assert store.discard(HELLO, now + HOUR_S)
    assert not store.exists(HELLO)
    assert not store.discard(HELLO, now + HOUR_S)


def test_nothing_is_taken_in_while_the_local_disk_is_low(store: BlobStore):
    store.low_space_bytes = 1 << 62
    with pytest.raises(LowSpace):
        store.writer()


def test_a_store_that_answers_can_be_written(store: BlobStore):
    assert store.writable()


def test_a_blob_whose_bytes_are_others_is_told_as_damaged(bucket: BlobStore, s3: S3, tmp_path: Path):
    put(bucket, b"hello")
    overwrite(s3, tmp_path.name, b"hallo")
    with pytest.raises(Damaged, match=HELLO):
        bucket.open(HELLO)
    with pytest.raises(Damaged):
        bucket.link_to(HELLO, tmp_path / "file")


def test_a_local_disk_that_fills_up_during_a_download_is_told_as_low_space(
    bucket: BlobStore, monkeypatch: pytest.MonkeyPatch
):
    put(bucket, b"hello")
    full = Full()
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
    with pytest.raises(LowSpace, match="No space left"):
        bucket.open(HELLO)
    assert full.closed


class Full(io.BytesIO):
    """A file on a full disk."""

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_bucket_that_is_away_is_told_as_unavailable(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("db.bucket._GIVE_UP_AFTER", timedelta(seconds=1))
    settings = s3.settings("away") | {"s3_endpoint": f"http://127.0.0.1:{free_port()}"}
    away = StorageSettings(home=tmp_path, low_space_bytes=0, **settings).open_blobs()
    assert not away.writable()
    with pytest.raises(BlobsUnavailable):
        put(away, b"hello")


@pytest.mark.parametrize("url", ["s3://", "bucket", "gs://bucket"])
def test_what_is_no_address_of_a_bucket_is_refused(url: str, tmp_path: Path):
    with pytest.raises(ValueError, match="s3://bucket"):
        StorageSettings(home=tmp_path, blobs=url).open_blobs()


def test_a_store_is_the_first_ones_until_another_takes_it_over(store: BlobStore):
    assert [store.claim("inst-a"), store.claim("inst-b")] == ["inst-a", "inst-a"]
    store.take_over("inst-b")
    assert store.claim("inst-a") == "inst-b"
