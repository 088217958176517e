"""What is missing is told with how it comes here: the name on the public index is somebody else's."""

import pytest

from cli.doctor import _engine
from cli.errors import CommandError
from cli.main import main

INSTALL = "clone: pip install -c docker/constraints.txt -e '.[train]'"


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("gguf", ["models", "gguf", "tiny", "-o", "tiny.gguf"]),
        ("merge", ["adapters", "merge", "tuned", "-o", "merged"]),
    ],
)
def test_what_makes_models_here_is_installed_from_the_clone(
    module: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve
) -> None:
    serve(lambda request: pytest.fail(f"{request.url} was asked for"))
    monkeypatch.setattr(f"cli.{module}.find_spec", lambda name: None)
    assert main(command) == 2
    assert INSTALL in capsys.readouterr().err


def test_the_doctor_installs_the_engine_from_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CommandError, match=r"torch, transformers.* missing") as caught:
        _engine()
    assert INSTALL in str(caught.value.mend)
