"""Memory that a training run frees stays with its process."""

import subprocess
import sys
from pathlib import Path

import pytest

_FREED = """
import torch
from engine.footprint import resident
from engine.heap import keep_freed

if {kept}:
    keep_freed()
torch.ones({bytes}, dtype=torch.uint8)
before = resident("VmRSS")
tensors = [torch.ones({bytes}, dtype=torch.uint8) for _ in range(4)]
held = resident("VmRSS")
del tensors
print(held - before, held - resident("VmRSS"))
"""
_BYTES = 100 * 2**20


@pytest.mark.parametrize("kept", [False, True])
def test_what_was_freed_is_handed_back_unless_it_is_kept(kept: bool):
    code = _FREED.format(kept=kept, bytes=_BYTES)
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, check=True)
    taken, handed_back = map(int, done.stdout.split())
    assert taken > 2 * _BYTES
    assert (handed_back < _BYTES) == kept
