"""Upload of a large file, against writing it to the same disk, and download, against nginx.

- up: from the first byte of the request to the response, which confirms that the file is stored (hashed, written,
  synced, recorded). `as_is` has a purpose whose rows are not checked, `rows` is checked row by row as it arrives, and
  `parts` goes through `/v1/uploads` in stored parts of 64 MiB that are assembled and checked at the end. The peer
  writes the same bytes from memory to the same file system in pieces of 1 MiB and calls fsync, as
  `dd bs=1M conv=fsync` does.
- down: the same client reads the whole file, and reads it in ranges of 64 MiB, over one kept-alive connection into one
  buffer, from us and from nginx with sendfile on, which serves the same file of the blob store.

All ways take turns in each round, and a ratio is the median over the rounds. The client sends with sendfile, so that it
takes little of the cores it shares with the server. No two uploads have the same bytes, because bytes that are stored
already are not written again.
"""

import argparse
import hashlib
import http.client
import json
import mmap
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO, NamedTuple

from benchmarks.harness import nginx
from benchmarks.harness.report import emit
from benchmarks.harness.service import Service, serve_api
from benchmarks.streaming import write_rows
from engine.rows import RowChecker

UP_GOAL, DOWN_GOAL = 0.8, 0.9
PIECE_BYTES = 1 << 20
PART_BYTES = 64 << 20
_FORM = (
    '--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
    '--cut\r\ncontent-disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
)
_PART = '--cut\r\ncontent-disposition: form-data; name="data"; filename="part"\r\n\r\n'
_END = b"\r\n--cut--\r\n"
_PATIENCE_S = 600.0


class Source(NamedTuple):
    """The file to send; it begins with a different row each time."""

    file: BinaryIO
    size_bytes: int

    def lead(self, number: int) -> bytes:
        return json.dumps({"text": f"upload {number}"}).encode() + b"\n"


class Client:
    """Send files to the service, each over its own connection."""

    def __init__(self, service: Service, source: Source) -> None:
        self._service, self._source = service, source

    def upload(self, purpose: str, number: int) -> dict[str, Any]:
        """Send the file as one multipart body."""
        lead = _FORM.format(purpose=purpose).encode() + self._source.lead(number)
        with self._connect() as connection:
            return self._post(connection, "/v1/files", lead, range(self._source.size_bytes))

    def upload_parts(self, purpose: str, number: int) -> dict[str, Any]:
        """Send the file in parts, one after the other, as OpenAI's client does."""
        lead = self._source.lead(number)
        size_bytes = len(lead) + self._source.size_bytes
        about = {"bytes": size_bytes, "filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": purpose}
        path = f"/v1/uploads/{self._service.call('POST', '/v1/uploads', json.dumps(about).encode())['id']}"
        ids = []
        with self._connect() as connection:
            for start in range(0, self._source.size_bytes, PART_BYTES):
                span = range(start, min(start + PART_BYTES, self._source.size_bytes))
                head = _PART.encode() + (b"" if start else lead)
                ids.append(self._post(connection, f"{path}/parts", head, span)["id"])
        done = self._service.call("POST", f"{path}/complete", json.dumps({"part_ids": ids}).encode())
        return done["file"]

    def _connect(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=_PATIENCE_S))

    def _post(self, connection: http.client.HTTPConnection, path: str, head: bytes, span: range) -> dict[str, Any]:
        connection.putrequest("POST", path)
        connection.putheader("authorization", self._service.headers["authorization"])
        connection.putheader("content-type", "multipart/form-data; boundary=cut")
        connection.putheader("content-length", str(len(head) + len(span) + len(_END)))
        connection.endheaders(head)
        connection.sock.sendfile(self._source.file, span.start, len(span))
        connection.send(_END)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status not in (http.client.OK, http.client.CREATED):
            raise RuntimeError(f"{path} answered {response.status}: {answer}")
        return answer


class Reader:
    """Read one file from a server, each time over one connection."""

    def __init__(self, port: int, path: str, headers: dict[str, str], size_bytes: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
        self._path, self._headers, self._size_bytes = path, headers, size_bytes
        self._buffer = memoryview(bytearray(PIECE_BYTES))

    def whole(self) -> None:
        self._connection.close()  # it opens again by itself, and none is idle for so long that the server closes it
        self._read({}, self._size_bytes)

    def ranges(self) -> None:
        self._connection.close()
        for start in range(0, self._size_bytes, PART_BYTES):
            stop = min(start + PART_BYTES, self._size_bytes)
            self._read({"range": f"bytes={start}-{stop - 1}"}, stop - start)

    def sha256(self) -> str:
        digest = hashlib.sha256()
        self._read({}, self._size_bytes, digest.update)
        return digest.hexdigest()

    def _read(self, more: dict[str, str], size_bytes: int, take: Callable[[memoryview], None] = lambda _: None) -> None:
        self._connection.request("GET", self._path, headers=self._headers | more)
        response = self._connection.getresponse()
        left = size_bytes
        while count := response.readinto(self._buffer):
            take(self._buffer[:count])
            left -= count
        if response.status not in (http.client.OK, http.client.PARTIAL_CONTENT) or left:
            raise RuntimeError(f"{self._path} answered {response.status} and {left:,} bytes too few")


def write_raw(source: Source, path: Path, number: int) -> None:
    """The least that any upload has to do: write and sync."""
    with path.open("xb", buffering=0) as file, mmap.mmap(source.file.fileno(), 0, prot=mmap.PROT_READ) as content:
        file.write(source.lead(number))
        for start in range(0, source.size_bytes, PIECE_BYTES):
            file.write(content[start : start + PIECE_BYTES])
        os.fsync(file.fileno())


def clear(service: Service) -> None:
    """Delete what was stored, and wait until the disk has nothing left to write."""
    for path in service.home.glob("blobs/??/??/*"):
        path.unlink()
    (service.home / "raw").unlink(missing_ok=True)
    os.sync()
    time.sleep(1.0)  # the disk is told what is free again


def timed(act: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def upload_ways(service: Service, source: Source) -> dict[str, Callable[[int], Any]]:
    client = Client(service, source)
    return {
        "raw": lambda number: write_raw(source, service.home / "raw", number),
        "as_is": lambda number: client.upload("user_data", number),
        "rows": lambda number: client.upload("pretrain", number),
        "parts": lambda number: client.upload_parts("pretrain", number),
    }


def up(service: Service, source: Source, rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each way in each round, without a first warm-up round."""
    ways = upload_ways(service, source)
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for place, (name, act) in enumerate(_in_turn(list(ways.items()), round_number)):
            clear(service)
            seconds = timed(lambda act=act, number=10 * round_number + place: act(number))
            if round_number:
                spent[name].append(seconds)
            print(f"round {round_number} up {name:<6} {source.size_bytes / seconds / 1e6:7.0f} MB/s", flush=True)
    clear(service)
    return spent


def down(service: Service, source: Source, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Measure downloads, whole and in ranges."""
    file = Client(service, source).upload("user_data", 0)
    name = file["sha256"]
    blobs = service.home / "blobs"
    with nginx.serve(folder / "nginx", blobs) as port:
        ours = Reader(service.port, f"/v1/files/{file['id']}/content", service.headers, file["bytes"])
        theirs = Reader(port, f"/{name[:2]}/{name[2:4]}/{name}", {}, file["bytes"])
        assert ours.sha256() == theirs.sha256() == name
        ways = {
            "nginx": theirs.whole, "whole": ours.whole, "nginx_ranges": theirs.ranges, "ranges": ours.ranges,
        }  # fmt: skip
        spent: dict[str, list[float]] = {way: [] for way in ways}
        for round_number in range(rounds + 1):
            for way, act in _in_turn(list(ways.items()), round_number):
                seconds = timed(act)
                if round_number:
                    spent[way].append(seconds)
                print(f"round {round_number} down {way:<12} {file['bytes'] / seconds / 1e6:7.0f} MB/s", flush=True)
    return spent


def _in_turn(ways: list[Any], number: int) -> list[Any]:
    return ways if number % 2 else ways[::-1]


def pieces(source: Source) -> Iterator[bytes]:
    source.file.seek(0)
    while piece := source.file.read(PIECE_BYTES):
        yield piece


def alone(source: Source) -> dict[str, int]:
    """Return the MB per second that one core hashes, and checks row by row: upper bounds of an upload's rate."""
    digest = hashlib.sha256()
    checker = RowChecker(purpose="pretrain", filename="rows.jsonl")
    rates = {}
    for name, take in {"sha256": digest.update, "rows": checker.feed}.items():
        before = time.process_time()
        for piece in pieces(source):
            take(piece)
        rates[name] = round(source.size_bytes / (time.process_time() - before) / 1e6)
    return rates


def peak_bytes(service: Service) -> int:
    """Return the peak memory of the API's process."""
    status = Path(f"/proc/{service.pids[-1]}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def ratio(spent: dict[str, list[float]], ours: str, peer: str) -> float:
    return median(their / our for our, their in zip(spent[ours], spent[peer], strict=True))


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are stopped then too
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    nginx.program()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-bench-")))
        write_rows(folder / "rows.jsonl", given.megabytes * 1_000_000)
        source = Source(stack.enter_context((folder / "rows.jsonl").open("rb")), (folder / "rows.jsonl").stat().st_size)
        service = stack.enter_context(serve_api(folder / "home"))
        peak_before = peak_bytes(service)
        spent = up(service, source, given.rounds) | down(service, source, 2 * given.rounds, folder)
        grew_bytes = peak_bytes(service) - peak_before
        rates_alone = alone(source)
    ratios = {name: ratio(spent, name, "raw") for name in ("as_is", "rows", "parts")}
    ratios |= {"whole": ratio(spent, "whole", "nginx"), "ranges": ratio(spent, "ranges", "nginx_ranges")}
    rates = {name: round(source.size_bytes / median(seconds) / 1e6) for name, seconds in spent.items()}
    peers = ("raw", "nginx", "nginx_ranges")
    share = min(ratios["as_is"] / UP_GOAL, ratios["rows"] / UP_GOAL, ratios["whole"] / DOWN_GOAL)
    emit({
        "name": "transfer",
        "ours": {name: rate for name, rate in rates.items() if name not in peers},
        "peer": {name: rates[name] for name in peers},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "mb_per_cpu_s_alone": rates_alone,
        "grew_mb": round(grew_bytes / 1e6, 1),
        "ratio": share,
        "goal": f"MB/s: up at least {UP_GOAL} of the raw disk's, down at least {DOWN_GOAL} of nginx's; "
        "ratio is the smallest share of a goal",
        "holds": share >= 1.0,
    })  # fmt: skip


if __name__ == "__main__":
    main()
