"""Dropout as a function of seed, step, document and layer, independent of batches, ranks and random generators.

A document that is computed in a step, alone or beside others, once or a second time, loses the same numbers each time.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from engine import shape_rounding
from engine.data.corpus import Batch

OwnLabels: TypeAlias = Callable[[Batch], Tensor | slice]
_HEAD = -1
"""The layer number of the head's dropout."""


class Place:
    """The seed and the batch that a model in training is at, shared by all of its dropout modules."""

    def __init__(self) -> None:
        self.seed = 0
        self.batch: Batch | None = None

    def seeds_of(self, layer: int) -> list[int]:
        """Return one seed for each document of the batch."""
        assert self.batch is not None, "a batch is placed before it is computed"
        step, first = self.batch.drawn
        return [_seed(self.seed, step, first + each, layer) for each in range(len(self.batch.segments))]


class DocumentDropout(nn.Module):
    """Dropout of inputs [1, T, D]: zeroes a share of them and scales up the others."""

    def __init__(self, share: float, layer: int, place: Place) -> None:
        super().__init__()
        self.share, self.layer, self.place = share, layer, place
        self.rows: tuple[int, int] = (0, 1)
        self.columns: tuple[int, int] = (0, 1)
        """Which part of the tokens and of the numbers this rank has, and of how many parts; all parts are drawn."""

    def forward(self, x: Tensor) -> Tensor:
        return _dropped(x, self._mask(x), self.share) if self.training else x

    def _mask(self, x: Tensor) -> Tensor:
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


class LabelDropout(nn.Module):
    """Dropout of a head's inputs [n, D], the states that labels are predicted from; they come in chunks."""

    def __init__(self, share: float, place: Place) -> None:
        super().__init__()
        self.share, self.place = share, place
        self.first = 0
        """Which of this rank's labels the first row of the next input belongs to (`place_labels`)."""
        self.own: OwnLabels = lambda _: slice(None)
        """Which of a batch's labels are this rank's."""
        self._drawn: tuple[int, Batch, Tensor] | None = None
        """The last seed and batch, and the mask of all labels of that batch, which its chunks are parts of."""

    def forward(self, x: Tensor) -> Tensor:
        return _dropped(x, self._mask(x), self.share) if self.training else x

    def _mask(self, x: Tensor) -> Tensor:
        batch = self.place.batch
        assert batch is not None, "a batch is placed before it is computed"
        if self._drawn is None or self._drawn[0] != self.place.seed or self._drawn[1] is not batch:
            self._drawn = self.place.seed, batch, self._draw(batch, x)
        mask_nD = self._drawn[2][self.own(batch)][self.first :][: len(x)]
        assert len(mask_nD) == len(x), "another batch was placed"
        return mask_nD

    def _draw(self, batch: Batch, x: Tensor) -> Tensor:
        mask_ND = torch.zeros(batch.count, x.shape[1], dtype=torch.bool, device=x.device)
        generator = torch.Generator(x.device)
        for rows, seed in zip(mask_ND.split(batch.label_counts), self.place.seeds_of(_HEAD), strict=True):
            rows.bernoulli_(self.share, generator=generator.manual_seed(seed))
        return mask_ND


def by_document(model: Any, head: nn.Module | None) -> None:
    """Replace the dropout of every adapter of `model`; the head's sees labels in place of documents."""
    place, layer = Place(), 0
    for module in model.modules():
        held: Any = getattr(module, "lora_dropout", None)
        for name, dropout in held.items() if isinstance(held, nn.ModuleDict) else ():
            if not isinstance(dropout, nn.Dropout):
                continue
            if module is head:
                held[name] = LabelDropout(dropout.p, place)
            else:
                held[name] = DocumentDropout(dropout.p, layer, place)
                layer += 1
    model.document_dropout = place


def place_in(model: nn.Module) -> Place | None:
    """Return what the dropout modules of a model share, None where it has no adapter."""
    return getattr(model, "document_dropout", None)


def place_dropout(model: nn.Module, seed: int, batch: Batch) -> None:
    """Set the batch that the model computes next."""
    place = place_in(model)
    if place is not None:
        place.seed, place.batch = seed, batch


def place_labels(head: nn.Module, first: int) -> None:
    """Set which of this rank's labels the first row of the head's next input belongs to."""
    for module in head.modules():
        if isinstance(module, LabelDropout):
            module.first = first


def _dropped(x: Tensor, mask: Tensor, share: float) -> Tensor:
    return x.masked_fill(mask, 0.0) / (1.0 - share)


def _seed(*numbers: int) -> int:
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1
