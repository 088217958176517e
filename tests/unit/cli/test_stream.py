"""Streams as the command line reads them."""

import json

import httpx

from cli.stream import lines_of

# Line ends of Unicode, none of which ends a line of a stream; and characters of several bytes.
TEXTS = ["one\u2028two\u2029three", "one\x85two\x7fthree", "\u00e9\U0001f682"]


def test_a_line_of_a_stream_ends_where_the_stream_says_so() -> None:
    told = [f"data: {json.dumps({'text': text}, ensure_ascii=False)}" for text in TEXTS]
    sent = "".join(f"{line}\n\n" for line in told).encode()
    byte_by_byte = httpx.Response(200, content=(bytes([byte]) for byte in sent))
    assert [line for line in lines_of(byte_by_byte) if line] == told
