"""What is refused before anybody is asked."""

import io

import pytest

from cli.main import main


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "--adapter"),
        (["tiny", "hello", "there"], "quote the message"),
        (["tiny", "hello", "--adapter", "tuned"], "leave MODEL out"),
        (["tiny", "hello", "--compare-base"], "needs --adapter"),
        (["tiny", " "], "message is empty"),
        (["tiny", "caf\udce9"], "not UTF-8: character 4"),
        (["tiny", "hello", "--temperature", "nan"], "no temperature"),
    ],
)
def test_a_call_that_cannot_be_answered_says_how_to_mend_it(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", *given]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("piped", "told"), [(b"\n", "message is empty"), (b"caf\xe9", "not UTF-8: character 4")])
def test_what_is_piped_in_has_to_be_a_message(
    piped: bytes, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(piped)))
    assert main(["chat", "tiny"]) == 2
    assert told in capsys.readouterr().err
