"""Dropout as a function of seed, step, document and layer: it knows nothing of batches, ranks or generators.

Whoever computes a document in a step, alone or beside others, and be it a second time, leaves out the same numbers.
"""

import hashlib
import struct
from typing import Any

import torch
from torch import Tensor, nn

from engine import shape_rounding
from engine.data.corpus import Batch


class Place:
    """Where a model in training is: what all its layers draw from."""

    def __init__(self) -> None:
        self.seed = 0
        self.batch: Batch | None = None

    def seeds_of(self, layer: int) -> list[int]:
        """One for each document of the flat row."""
        assert self.batch is not None, "a batch is placed before it is computed"
        step, first = self.batch.drawn
        return [_seed(self.seed, step, first + each, layer) for each in range(len(self.batch.segments))]


class DocumentDropout(nn.Module):
    """Of inputs [1, T, D] leaves out a share and scales the others up."""

    def __init__(self, share: float, layer: int, place: Place) -> None:
        super().__init__()
        self.share, self.layer, self.place = share, layer, place
        self.rows: tuple[int, int] = (0, 1)
        self.columns: tuple[int, int] = (0, 1)
        """Which part of an input's tokens and numbers comes here, and of how many: those of the others are drawn too."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x.masked_fill(self._left_out(x), 0.0) / (1.0 - self.share)

    def _left_out(self, x: Tensor) -> Tensor:
        batch = self.place.batch
        assert batch is not None, "a batch is placed before it is computed"
        (row, rows_of), (column, columns_of) = self.rows, self.columns
        shape = (rows_of * x.shape[1], columns_of * x.shape[2])
        mask_TD = torch.zeros(shape, dtype=torch.bool, device=x.device)
        generator = torch.Generator(x.device)
        seeds = self.place.seeds_of(self.layer)
        # Behind the batch's own tokens may be others that only fill the row.
        assert (
            0 <= len(mask_TD) - shape_rounding.rows(batch.tokens, shape_rounding.STEP) < rows_of
            or len(mask_TD) == batch.tokens
        ), "another batch was placed"
        for rows, seed in zip(mask_TD[: batch.tokens].split(batch.segments), seeds, strict=True):
            rows.bernoulli_(self.share, generator=generator.manual_seed(seed))
        return mask_TD.chunk(rows_of)[row].chunk(columns_of, dim=1)[column][None]


def by_document(model: Any, head: nn.Module | None) -> None:
    """Put it in place of the dropout of every adapter but the head's, which sees labels and no documents."""
    place, layer = Place(), 0
    for module in model.modules():
        held: Any = getattr(module, "lora_dropout", None)
        for name, dropout in held.items() if isinstance(held, nn.ModuleDict) else ():
            if isinstance(dropout, nn.Dropout) and module is not head:
                held[name] = DocumentDropout(dropout.p, layer, place)
                layer += 1
    model.document_dropout = place


def place_dropout(model: nn.Module, seed: int, batch: Batch) -> None:
    """Say which batch comes next."""
    place: Place | None = getattr(model, "document_dropout", None)
    if place is not None:
        place.seed, place.batch = seed, batch


def _seed(*told: int) -> int:
    return int.from_bytes(hashlib.blake2b(struct.pack(f"<{len(told)}q", *told), digest_size=8).digest(), "little") >> 1
