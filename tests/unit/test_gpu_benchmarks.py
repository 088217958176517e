"""The benchmarks of a GPU that have no peer, at toy size on the CPU; the others are in tests/parity."""

import importlib.util
import json
import sys
from types import ModuleType

import pytest
import torch

from tests import scripts

ATTENTION = scripts.BENCHMARKS / "gpu" / "attention.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "argv", [ATTENTION.name, "--small"])
    spec = importlib.util.spec_from_file_location("gpu_attention", ATTENTION)
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


def test_pretraining_tells_its_share_of_the_matmul_rate(monkeypatch, capfd):
    result = scripts.result("gpu/pretrain", monkeypatch, capfd)
    assert result["name"] == "gpu-pretrain"
    assert result["ours"] > 0
    assert result["tokens_per_s"] > 0
