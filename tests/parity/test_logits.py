"""Every family scores as in transformers: loaded from disk by the engine, documents packed into one row."""

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.data.corpus import Batch
from engine.model.forward import backbone_of, head_of
from engine.model.load import load_model
from tests.parity.bases import FAMILIES, save_base

TOLERANCE = 1e-5
LENGTHS = (5, 1, 90, 17)


def documents(vocabulary: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, vocabulary, (length,), generator=generator) for length in LENGTHS]


def packed(texts: list[torch.Tensor]) -> Batch:
    """All documents in one row, a label behind every token."""
    ids, every = torch.cat(texts), torch.arange(sum(LENGTHS))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    return Batch(ids, positions, every, ids, LENGTHS, ())


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_logits_equal_those_of_transformers(tmp_path: Path, agrees: Any, family: str) -> None:
    folder = save_base(tmp_path / family, family)
    model = load_model(folder, device=torch.device("cpu")).eval()
    texts = documents(model.config.vocab_size)
    ours = head_of(model)(backbone_of(model, packed(texts)))
    peer: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    theirs = [peer(input_ids=text[None]).logits[0] for text in texts]
    ends = list(accumulate(LENGTHS))
    gaps = [
        float((ours[end - length : end] - logits).abs().max() / logits.abs().max())
        for end, length, logits in zip(ends, LENGTHS, theirs, strict=True)
    ]
    agrees(f"logits, {family}", len(texts), max(gaps), TOLERANCE)
