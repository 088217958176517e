"""The products that a run is told to have machine code made for are those that oneDNN makes it for.

Nearly: the passes that no step has, those that evaluate and that check what was exported, are not counted.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import runs

ROWS = 24


def made_and_told(root: Path) -> tuple[int, float]:
    """How many products oneDNN made code for, and how many the engine counted."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "profile_create"}
    command = [sys.executable, "-m", "engine", str(root)]
    done = subprocess.run(command, cwd=runs.ROOT, env=environment, capture_output=True, text=True, check=True)
    made = sum("create:cache_miss" in line and ",matmul," in line for line in done.stdout.splitlines())
    if made < 2:
        pytest.skip("this CPU does not multiply bf16 through oneDNN")
    (used,) = runs.events(root, "used")
    return made, used["effort"]["steps"]["shapes"]


@pytest.mark.parametrize("tuning", [{"method": "full"}, {"method": "lora", "r": 4}])
@pytest.mark.parametrize("steps", [4, 24])
def test_code_is_made_for_as_many_products_as_are_counted(tmp_path, tuning, steps):
    given = {"precision": "bf16", "max_steps": steps, "max_length": 256, "per_device_train_batch_size": 4}
    root = runs.sft_run(tmp_path / "run", spec=runs.sft_spec(**given) | {"tuning": tuning})
    runs.save_base(root / "model", width=128)
    rows = [{"prompt": "the " * number, "completion": "cat " * 7 * number} for number in range(1, ROWS)]
    runs.write_rows(root / "data" / "train.jsonl", rows)
    made, told = made_and_told(root)
    assert 0.6 * made < told < 1.1 * made, (made, told)
