"""One request, however it is made, grows the API process by little: what it may hold has a bound everywhere."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.test_process import Process, running

__all__ = ["running"]

MOST_BYTES = 64 << 20
MIB = 1 << 20
LINE = 4 * MIB - 100


def most_held(process: Process, status: str = "VmHWM") -> int:
    """Bytes: what is resident, or the most since the last reset."""
    told = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(told.partition(f"{status}:")[2].split()[0]) * 1024


def grown(process: Process, send: Callable[[], httpx.Response]) -> tuple[int, int]:
    """(How much more than before was held at most, the answer's status)."""
    Path(f"/proc/{process.process.pid}/clear_refs").write_text("5")  # the most held begins anew
    before = most_held(process, "VmRSS")
    answer = send()
    return most_held(process) - before, answer.status_code


def chunks(total: int, chunk: bytes = b"x" * MIB) -> Iterator[bytes]:
    """A body of no told length."""
    for _ in range(total // len(chunk)):
        yield chunk


def filled(chunk: bytes, before: bytes = b"", after: bytes = b"", size: int = MIB - 64) -> bytes:
    """As much of the chunk as there is room for in a JSON body."""
    return before + chunk * ((size - len(before) - len(after)) // len(chunk)) + after


def many(count: int) -> dict[str, Any]:
    return {f"f{number}": number for number in range(count)}


BODIES = {
    "a list of lists": filled(b"[],", b"[", b"[]]"),
    "a list in a spec": filled(b"[],", b'{"kind":"sft","exclude_rows":[', b"[]]}"),
    "an object of unknown fields": json.dumps(many(60_000)).encode(),
    "a spec of unknown fields": json.dumps({"kind": "sft"} | many(60_000)).encode(),
    "metadata without end": json.dumps({"kind": "sft", "metadata": dict.fromkeys(many(60000), "x")}).encode(),
    "a mixture without end": filled(b"{},", b'{"kind":"sft","mixture":[', b"{}]}"),
    "rows that are left out": filled(b"7,", b'{"kind":"sft","exclude_rows":[', b"7]}"),
    "a long number": filled(b"9"),
    "nothing but brackets": filled(b"["),
    "a name without end": filled(b"x", b'{"kind":"sft","suffix":"', b'"}'),
}
PATHS = {
    "/v1/chat/completions": {
        "messages": filled(b'{"role":"user","content":""},', b'{"model":"m","messages":[', b"{}]}"),
        "wrong messages": filled(b"{},", b'{"model":"m","messages":[', b"{}]}"),
        "wrong parts": filled(b"{},", b'{"model":"m","messages":[{"role":"user","content":[', b"{}]}]}"),
        "stops": filled(b'"x",', b'{"model":"m","stop":[', b'"x"]}'),
    },
    "/v1/completions": {
        "tokens": filled(b"1,", b'{"model":"m","prompt":[', b"1]}"),
        "prompts of tokens": filled(b"[1],", b'{"model":"m","prompt":[', b"[1]]}"),
        "wrong tokens": filled(b"[],", b'{"model":"m","prompt":[[1,', b"[]]]}"),
        "wrong prompts": filled(b"{},", b'{"model":"m","prompt":[', b"{}]}"),
    },
    "/v1/fine_tuning/jobs": {"integrations": filled(b"{},", b'{"model":"m","integrations":[', b"{}]}")},
    "/v1/preview": {"lines": filled(b"7,", b'{"lines":[', b"7]}")},
    "/v1/evals": {
        "criteria": filled(b"{},", b'{"testing_criteria":[', b"{}]}"),
        "a schema": filled(b'{"":0},', b'{"data_source_config":{"type":"custom","item_schema":{"a":[', b"0]}}}"),
    },
    "/v1/fine_tuning/alpha/graders/run": {
        "two long texts": json.dumps({
            "grader": {
                "type": "text_similarity",
                "name": "g",
                "input": "{{sample.output_text}}",
                "reference": "{{item.a}}",
                "evaluation_metric": "fuzzy_match",
            },
            "item": {"a": "ab" * (MIB // 5)},
            "model_sample": "ba" * (MIB // 5),
        }).encode(),
        "an item of many values": filled(b'{"":0},', b'{"item":{"a":[', b"0]}}"),
    },
    "/v1/models": {"files": filled(b'"file-x",', b'{"name":"m","files":[', b'"file-x"]}')},
    "/v1/webhook_endpoints": {"events": filled(b'"x",', b'{"name":"w","url":"https://a.b","event_types":[', b'"x"]}')},
}  # fmt: skip
CASES = [("/v1/jobs", name, body) for name, body in BODIES.items()] + [
    (path, name, body) for path, bodies in PATHS.items() for name, body in bodies.items()
]


@pytest.mark.parametrize(
    ("path", "body"), [pytest.param(path, body, id=f"{path} {name}") for path, name, body in CASES]
)
def test_a_body_of_json_grows_the_process_by_little(running: Process, path: str, body: bytes):
    assert len(body) <= MIB
    headers = {"content-type": "application/json"}
    more, status = grown(running, lambda: running.client.post(path, content=body, headers=headers))
    assert status < 500
    assert more <= MOST_BYTES, f"{more / MIB:.0f} MiB"


CHECK = {"type": "string_check", "name": "a", "input": "x", "reference": "x", "operation": "eq"}
EVAL = {"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": [CHECK]}
BEFORE, AFTER = b'{"data_source":{"type":"jsonl","source":{"type":"file_content","content":[', b"]}}}"
ROWS = b",".join([b'{"item":{"a":[' + b'"",' * 20 + b'"' + b"x" * 400 + b'"]}}'] * 2000)
RUNS = {
    "rows without end": filled(b'{"item":{}},', BEFORE, b'{"item":{}}' + AFTER),
    "a row of many values": filled(b'{"":0},', BEFORE + b'{"item":{"a":[', b"0]}}" + AFTER),
    "as many rows as are taken": BEFORE + ROWS + AFTER,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_its_rows_grows_the_process_by_little(running: Process, name: str):
    eval_id = running.client.post("/v1/evals", json=EVAL).json()["id"]
    headers = {"content-type": "application/json"}
    assert len(RUNS[name]) <= MIB
    path = f"/v1/evals/{eval_id}/runs"
    more, status = grown(running, lambda: running.client.post(path, content=RUNS[name], headers=headers))
    assert status == (200 if name == "as many rows as are taken" else 422)
    assert more <= MOST_BYTES, f"{more / MIB:.0f} MiB"


def test_a_listing_of_large_runs_grows_the_process_by_little_and_goes_on(running: Process):
    eval_id = running.client.post("/v1/evals", json=EVAL).json()["id"]
    path, headers = f"/v1/evals/{eval_id}/runs", {"content-type": "application/json"}
    made = [
        running.client.post(path, content=RUNS["as many rows as are taken"], headers=headers).json()["id"]
        for _ in range(30)
    ]
    more, status = grown(running, lambda: running.client.get(path, params={"limit": 100}))
    assert (status, more <= MOST_BYTES) == (200, True), f"{more / MIB:.0f} MiB"
    listed: list[str] = []
    has_more = True
    while has_more:
        after = {"after": listed[-1]} if listed else {}
        page = running.client.get(path, params={"limit": 100} | after).json()
        listed += [run["id"] for run in page["data"]]
        has_more = page["has_more"]
    assert listed == made


def form(parts: Iterator[bytes]) -> Iterator[bytes]:
    """A multipart body with a file of these bytes."""
    yield b'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    yield b'--cut\r\ncontent-disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
    yield from parts
    yield b"\r\n--cut--\r\n"


UPLOADS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a line without end": lambda: form(chunks(300 * MIB)),
    "a line of text": lambda: form(iter([filled(b"x", b'{"text":"\xf0\x9f\x98\x80', b'"}\n', LINE)])),
    "a line of prose": lambda: form(iter([filled(b"word, ", b'{"text":"', b'"}\n', LINE)])),
    "a line of brackets": lambda: form(iter([filled(b"[],", b'{"messages":[', b"[]]}\n", LINE)])),
    "a line of turns": lambda: form(
        iter([filled(b'{"role":"user","content":"x"},', b'{"messages":[', b"{}]}\n", LINE)])
    ),
    "a line of fields": lambda: form(iter([json.dumps(many(200_000)).encode() + b"\n"])),
    "faults without end": lambda: form(chunks(MIB, b"{}\n" * 100_000)),
    "short lines without end": lambda: form(chunks(30 * MIB, b'{"prompt":"a","completion":"b"}\n' * 10_000)),
    "parts without end": lambda: chunks(
        60 * MIB, b'--cut\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 10_000
    ),
    "a field without end": lambda: iter(
        [b'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n', *chunks(200 * MIB)]
    ),
    "a head without end": lambda: iter([b"--cut\r\ncontent-disposition: form-data; name=", *chunks(200 * MIB)]),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_grows_the_process_by_little(running: Process, name: str):
    headers = {"content-type": "multipart/form-data; boundary=cut"}

    def send() -> httpx.Response:
        try:
            return running.client.post("/v1/files", content=UPLOADS[name](), headers=headers)
        except (httpx.WriteError, httpx.RemoteProtocolError):  # refused before the end of it
            return httpx.Response(400)

    more, status = grown(running, send)
    assert status < 500
    assert more <= MOST_BYTES, f"{more / MIB:.0f} MiB"


def test_a_body_of_no_told_length_is_read_up_to_its_bound(running: Process):
    headers = {"content-type": "application/json"}

    def send() -> httpx.Response:
        try:
            return running.client.post("/v1/jobs", content=chunks(200 * MIB), headers=headers)
        except (httpx.WriteError, httpx.RemoteProtocolError):
            return httpx.Response(413)

    more, status = grown(running, send)
    assert (status, more <= MOST_BYTES) == (413, True)
