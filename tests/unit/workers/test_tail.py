"""Reading a file that another process is writing."""

from pathlib import Path

import pytest

from workers import tail
from workers.tail import Tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_a_file_that_is_not_there_yet_has_no_lines(path: Path) -> None:
    assert list(Tail(path).lines()) == []


def test_every_line_is_given_once(path: Path) -> None:
    following = Tail(path)
    append(path, b"one\ntwo\n")
    assert list(following.lines()) == [b"one", b"two"]
    append(path, b"three\n")
    assert list(following.lines()) == [b"three"]
    assert list(following.lines()) == []


def test_a_partial_last_line_waits_for_its_rest(path: Path) -> None:
    following = Tail(path)
    append(path, b'{"seq": 1}\n{"se')
    assert list(following.lines()) == [b'{"seq": 1}']
    append(path, b'q": 2')
    assert list(following.lines()) == []
    append(path, b"}\n")
    assert list(following.lines()) == [b'{"seq": 2}']


def test_a_character_cut_in_the_middle_is_put_together_again(path: Path) -> None:
    following = Tail(path)
    whole = "ä\n".encode()
    append(path, whole[:1])
    assert list(following.lines()) == []
    append(path, whole[1:])
    assert list(following.lines()) == ["ä".encode()]


def test_a_reader_that_stops_in_the_middle_loses_nothing(path: Path) -> None:
    append(path, b"one\ntwo\nthree\n")
    following = Tail(path)
    assert next(following.lines()) == b"one"
    assert list(following.lines()) == [b"two", b"three"]


def test_a_line_without_end_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_MAX_LINE_BYTES", 10)
    append(path, b"x" * 10)
    with pytest.raises(ValueError, match="over 10 bytes"):
        list(Tail(path).lines())
