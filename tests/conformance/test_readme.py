"""The README's own lines for those who come from OpenAI, run with each package."""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conformance.conftest import VERSIONS, Place, python_of
from tests.e2e.service import ROOT


@pytest.mark.parametrize("version", VERSIONS)
def test_the_lines_of_the_readme_bring_an_adapter_down(place: Place, version: str, tmp_path: Path):
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Coming from OpenAI")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    here = {"http://127.0.0.1:8642": place.url, "ty-...": place.key, "shakespeare": place.model}
    program = found[1]
    for told, meant in (here | {"examples/gsm8k_train.jsonl": "rows.jsonl"}).items():
        assert told in program
        program = program.replace(told, meant)
    rows = (ROOT / "examples/gsm8k_train.jsonl").read_bytes().splitlines(keepends=True)[:16]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(rows))
    done = subprocess.run(
        [str(python_of(version)), "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("ft:tiny-1:default:math:")
    with tarfile.open(tmp_path / "math.tar") as archive:
        assert "adapter_model.safetensors" in archive.getnames()
