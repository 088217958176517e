"""The real `openai` packages, unmodified, against a live service: every method, sync and async, without a difference."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conformance.conftest import VERSIONS, Place, python_of

SDK = Path(__file__).parent / "sdk"


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_method_does_what_it_should(place: Place, version: str, mode: str, capsys: pytest.CaptureFixture[str]):
    environment = os.environ | place.environment()
    command = [str(python_of(version)), str(SDK), mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    differences: dict[str, list[str]] = json.loads(done.stdout)
    found = {method: told for method, told in differences.items() if told}
    with capsys.disabled():
        print(f"\nopenai {version} {mode}: {len(differences)} methods, {len(found)} with differences")  # noqa: T201 - the figure
    assert not found, "\n".join(f"{method}: {line}" for method, told in found.items() for line in told)
