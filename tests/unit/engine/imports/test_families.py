"""What transformers saves of each family is taken, and loads as the same model."""

import io
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.imports import Piece, check_model
from tests import runs


@pytest.mark.parametrize("family", [*runs.FAMILIES, "qwen3"])
def test_a_model_saved_by_transformers_is_taken_and_scores_the_same(family: str, tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "saved", family)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    checked = check_model({name: Piece(io.BytesIO(content), 0, len(content)) for name, content in files.items()})
    assert checked.family == family
    taken = tmp_path / "taken"
    taken.mkdir()
    for name in checked.as_is:
        (taken / name).write_bytes(files[name])
    for name, content in checked.rewritten.items():
        (taken / name).write_bytes(content)
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with torch.no_grad():
        logits = [AutoModelForCausalLM.from_pretrained(each)(tokens).logits for each in (folder, taken)]
    assert torch.equal(*logits)
    assert checked.limits == {"context_length": 256, "vocabulary_size": logits[0].shape[-1]}
