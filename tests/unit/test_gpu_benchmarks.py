"""The benchmark of a GPU's attention, at toy size on the CPU."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", ["attention.py", "--small"])
    spec = importlib.util.spec_from_file_location("gpu_attention", BENCHMARKS / "gpu" / "attention.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packed_attention_is_as_exact_as_its_types_allow(script, capsys):
    script.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["holds"], result
    assert set(result["ours"]) == {"float32", "bfloat16", "float16"}


def test_attention_to_one_token_too_many_does_not_hold(script, monkeypatch, capsys):
    right = script.visible
    monkeypatch.setattr(script, "visible", lambda *a: right(*a) & ~torch.eye(sum(a[0]), dtype=torch.bool).roll(1, 0))
    script.main()
    assert not json.loads(capsys.readouterr().out.splitlines()[-1])["holds"]
