"""What is told of a merged model."""

import click
import pytest

from cli import merge
from cli.imports import import_model
from cli.main import main


def test_what_is_told_to_type_next_has_all_that_the_command_asks_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve
) -> None:
    serve(lambda request: pytest.fail("nothing is asked of the service"))
    told = {"into": "original", "dtype": "float32", "gap": 0.0}
    monkeypatch.setattr(merge, "merged_into", lambda *_: told)
    assert main(["adapters", "merge", "bot", "-o", "my model"]) == 0
    proposed = capsys.readouterr().err.partition("next: ")[2]
    asked = [param.opts[0] for param in import_model.params if isinstance(param, click.Option) and param.required]
    assert proposed == "trainyard models import 'my model' --name NAME --licence LICENCE\n"
    assert set(asked) <= set(proposed.split())
