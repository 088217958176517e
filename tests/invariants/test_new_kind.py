"""A new kind of job is one folder and its lines in two tables: shown by adding one to a copy of the engine."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import runs

TOY = Path(__file__).parent / "toy"
LINES = {
    "engine/jobs.py": {'    "sft": ': '    "toy": "engine.kinds.toy.spec:ToySpec",\n'},
    "engine/objectives.py": {
        "from engine.kinds.sft": "from engine.kinds.toy.objective import ToyObjective\n",
        '    "sft": ': '    "toy": ToyObjective,\n',
    },
}
"""By file, what is added after the line that begins so."""


@pytest.fixture
def extended(tmp_path) -> Path:
    """A copy of the engine with the toy's folder, and its lines after those of `sft`."""
    shutil.copytree(runs.ROOT / "engine", tmp_path / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TOY, tmp_path / "engine" / "kinds" / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    for name, added in LINES.items():
        path = tmp_path / name
        lines = path.read_text().splitlines(keepends=True)
        for beginning, line in added.items():
            after = next(at for at, text in enumerate(lines) if text.startswith(beginning))
            lines.insert(after + 1, line)
        path.write_text("".join(lines))
    return tmp_path


def toy_run(root: Path) -> Path:
    spec = {"kind": "toy", "model": "tiny/1", "training_file": "file-1", "hyperparameters": {"max_steps": 4}}
    runs.write_job(root, spec)
    rng = random.Random(0)
    runs.write_rows(root / "data" / "train.jsonl", [{"text": runs.sentence(rng, 9)} for _ in range(30)])
    runs.save_base(root / "model")
    return root


def python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


def test_a_folder_and_its_lines_make_a_kind_that_trains_to_the_end(extended, tmp_path):
    root = toy_run(tmp_path / "run")
    ended = python(extended, "-m", "engine", str(root))
    assert ended.returncode == 0, ended.stderr
    assert runs.events(root)[-1]["type"] == "finished"
    assert runs.losses(root)[4] < runs.losses(root)[1]


def test_without_its_lines_the_folder_is_no_kind(extended, tmp_path):
    for name in LINES:
        shutil.copy(runs.ROOT / name, extended / name)
    root = toy_run(tmp_path / "run")
    assert python(extended, "-m", "engine", str(root)).returncode != 0
    assert runs.events(root, "failed")[0]["code"] == "job_not_read"


def test_the_spec_of_the_new_kind_is_known_without_torch(extended):
    told = python(
        extended,
        "-c",
        "import sys; from engine.jobs import SPECS; print(SPECS['toy'].__name__, 'torch' in sys.modules)",
    )
    assert told.stdout.split() == ["ToySpec", "False"]
