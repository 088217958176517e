"""The blob store."""

import errno
import hashlib
import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from db.blobs import Blob, BlobStore
from db.errors import BlobsUnavailable, LowSpace

HELLO = hashlib.sha256(b"hello").hexdigest()


def put(blobs: BlobStore, data: bytes) -> Blob:
    with blobs.writer() as writer:
        writer.write(data)
        return writer.commit()


def visible(blobs: BlobStore) -> list[Path]:
    return [path for path in blobs.root.rglob("*") if path.is_file()]


def test_a_blob_is_named_by_the_hash_of_its_bytes(blobs: BlobStore):
    assert put(blobs, b"hello") == Blob(HELLO, 5)
    assert blobs.path(HELLO) == blobs.root / HELLO[:2] / HELLO[2:4] / HELLO
    with blobs.open(HELLO) as file:
        assert file.read() == b"hello"


def test_pieces_make_the_same_blob_as_the_whole(blobs: BlobStore):
    with blobs.writer() as writer:
        for piece in (b"he", b"", b"llo"):
            writer.write(piece)
        assert writer.commit() == put(blobs, b"hello")


def test_large_and_small_pieces_are_hashed_in_their_order(blobs: BlobStore):
    pieces = [os.urandom(size) for size in (3 << 20, 5, 1 << 20, 100_000, 0, 40 << 20, 7, 1 << 20)]
    with blobs.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        blob = writer.commit()
    assert blob.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert blobs.path(blob.sha256).read_bytes() == b"".join(pieces)


def test_what_the_disk_could_not_keep_is_told_though_it_tells_that_but_once(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
):
    def lose(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", lose)
    with blobs.writer() as writer:
        writer.write(bytes(40 << 20))
        with pytest.raises(OSError, match="Input/output"):
            writer.commit()
    assert visible(blobs) == []


def test_an_empty_blob_can_be_stored(blobs: BlobStore):
    assert blobs.path(put(blobs, b"").sha256).read_bytes() == b""


def test_a_file_is_copied_in(blobs: BlobStore, tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 << 20))
    blob = blobs.put_file(source)
    source.write_bytes(b"changed afterwards")
    assert hashlib.sha256(blobs.path(blob.sha256).read_bytes()).hexdigest() == blob.sha256


def test_a_blob_is_read_only(blobs: BlobStore):
    put(blobs, b"hello")
    assert stat.S_IMODE(blobs.path(HELLO).stat().st_mode) == 0o444


def test_a_blob_that_is_there_is_not_written_again(blobs: BlobStore):
    put(blobs, b"hello")
    before = blobs.path(HELLO).stat()
    put(blobs, b"hello")
    after = blobs.path(HELLO).stat()
    assert before.st_ino == after.st_ino


def test_storing_a_blob_again_makes_it_new(blobs: BlobStore):
    put(blobs, b"hello")
    os.utime(blobs.path(HELLO), (0, 0))
    put(blobs, b"hello")
    assert not blobs.discard(HELLO, 1000.0)
    assert blobs.exists(HELLO)


def test_a_store_without_any_blob_is_taken_for_one_whose_disk_is_not_there(blobs: BlobStore, tmp_path: Path):
    with pytest.raises(BlobsUnavailable, match="not mounted"):
        blobs.link_to(HELLO, tmp_path / "link")


def test_a_blob_that_is_discarded_leaves_the_links_to_it(blobs: BlobStore, tmp_path: Path):
    put(blobs, b"hello")
    blobs.link_to(HELLO, tmp_path / "link")
    os.utime(blobs.path(HELLO), (0, 0))
    assert blobs.unused_since(HELLO[:2], 1000.0) == [HELLO]
    assert blobs.discard(HELLO, 1000.0)
    assert (tmp_path / "link").read_bytes() == b"hello"
    assert not blobs.exists(HELLO)


def test_a_blob_is_there_after_a_commit_however_often_it_is_discarded_meanwhile(blobs: BlobStore):
    ended = threading.Event()

    def discard():
        while not ended.is_set():
            if blobs.exists(HELLO):
                blobs.discard(HELLO, 1000.0)

    thread = threading.Thread(target=discard)
    thread.start()
    for _ in range(200):
        put(blobs, b"hello")
        assert blobs.exists(HELLO)
        os.utime(blobs.path(HELLO), (0, 0))
    ended.set()
    thread.join()


def test_nothing_is_visible_before_the_commit(blobs: BlobStore):
    with blobs.writer() as writer:
        writer.write(b"hello")
        assert not blobs.exists(HELLO)


def test_an_aborted_blob_leaves_nothing(blobs: BlobStore):
    writer = blobs.writer()
    writer.write(b"hello")
    writer.abort()
    assert visible(blobs) == []


def test_a_blob_whose_writing_failed_leaves_nothing(blobs: BlobStore):
    def interrupted():
        with blobs.writer() as writer:
            writer.write(b"hello")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert visible(blobs) == []


def test_a_process_that_is_forked_hashes_beside_its_writing_as_its_parent_did(blobs: BlobStore):
    large = b"x" * (1 << 20)
    put(blobs, large)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(put, (blobs, large + b"y")).get(10) == put(blobs, large + b"y")


def test_a_committed_blob_leaves_nothing_beside_it(blobs: BlobStore):
    put(blobs, b"hello")
    put(blobs, b"hello")
    assert visible(blobs) == [blobs.path(HELLO)]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", HELLO.upper(), HELLO + "\n", HELLO[:-1], "\0" * 64])
def test_what_is_no_sha256_never_becomes_a_path(blobs: BlobStore, name: str):
    with pytest.raises(ValueError, match="is not a SHA-256"):
        blobs.path(name)


def test_a_blob_that_is_not_stored_cannot_be_opened(blobs: BlobStore):
    with pytest.raises(FileNotFoundError):
        blobs.open(HELLO)


def test_a_link_shares_the_bytes_of_the_blob(blobs: BlobStore, tmp_path: Path):
    put(blobs, b"hello")
    blobs.link_to(HELLO, tmp_path / "link")
    assert (tmp_path / "link").samefile(blobs.path(HELLO))


def test_across_devices_the_blob_is_copied(blobs: BlobStore):
    put(blobs, b"hello")
    other = Path("/dev/shm") / f"trainyard-test-{os.getpid()}"
    if other.parent.stat().st_dev == blobs.root.stat().st_dev:
        pytest.skip("/dev/shm is on the device of the temporary folder")
    try:
        blobs.link_to(HELLO, other)
        assert other.read_bytes() == b"hello"
    finally:
        other.unlink(missing_ok=True)


def test_a_link_to_a_blob_that_is_not_stored_is_an_error(blobs: BlobStore, tmp_path: Path):
    put(blobs, b"another")
    with pytest.raises(FileNotFoundError):
        blobs.link_to(HELLO, tmp_path / "link")


def test_nothing_is_taken_in_when_the_disk_runs_low(tmp_path: Path):
    blobs = BlobStore(tmp_path / "blobs", low_space_bytes=1 << 62)
    with pytest.raises(LowSpace) as caught:
        blobs.writer()
    assert caught.value.free_bytes < caught.value.wanted_bytes == 1 << 62
    assert visible(blobs) == []


def test_a_disk_that_runs_low_meanwhile_stops_a_long_write(blobs: BlobStore):
    def write_on():
        with blobs.writer() as writer:
            blobs.low_space_bytes = 1 << 62
            for _ in range(65):
                writer.write(bytes(1 << 20))

    with pytest.raises(LowSpace):
        write_on()
    assert visible(blobs) == []


def test_a_full_disk_is_told_as_low_space(blobs: BlobStore):
    with blobs.writer() as writer, Path("/dev/full").open("wb", buffering=0) as full:
        writer._file.close()
        writer._file = full  # every write to it ends with the system's own ENOSPC
        with pytest.raises(LowSpace, match="No space left"):
            writer.write(b"hello")


def test_what_killed_writers_left_is_discarded_once_it_is_old(blobs: BlobStore):
    left = blobs.root / "tmp/left"
    left.write_bytes(b"hello")
    now = left.stat().st_mtime
    assert blobs.discard_stale(3600, now + 60) == 0
    assert blobs.discard_stale(3600, now + 3601) == 1
    assert visible(blobs) == []


def test_a_writer_that_ends_while_stale_files_are_looked_for_is_no_error(blobs: BlobStore):
    (blobs.root / "tmp/gone").symlink_to(blobs.root / "nowhere")  # listed, and not there when it is looked at
    assert blobs.discard_stale(3600, 1e12) == 0
