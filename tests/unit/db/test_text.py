"""Text that any database takes."""

import pytest

from db.models.row import storable


@pytest.mark.parametrize("text", ["", "plain", "äöü 数 😀", "tab\tand\nline"])
def test_ordinary_text_is_kept_as_it_is(text: str):
    assert storable(text) == text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\udfff", "\ufffd"),
        ("\0\ud800ü", "\ufffd\ufffdü"),
    ],
)
def test_nul_and_lone_surrogates_are_replaced(text: str, stored: str):
    assert storable(text) == stored


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udc00\ud800", "x\ud83dy"])
def test_what_is_stored_can_be_encoded(text: str):
    assert "\0" not in storable(text)
    storable(text).encode()
