"""Packing of documents into rows: best fit within windows of the shuffled order."""

from bisect import bisect_left, insort

import numpy as np

from engine.data.corpus import Ints

_WINDOW = 2048
"""Documents that are packed together: enough to fill rows, few enough to keep the order random."""


def pack(lengths: Ints, order: Ints, row_tokens: int) -> list[list[int]]:
    """Return rows of at most `row_tokens` tokens that hold every document of `order` once."""
    rows: list[list[int]] = []
    for start in range(0, len(order), _WINDOW):
        rows += _best_fit(lengths, order[start : start + _WINDOW], row_tokens)
    return rows


def _best_fit(lengths: Ints, documents: Ints, row_tokens: int) -> list[list[int]]:
    """Put the longest first, each into the row that it fills best (Ding et al. 2024, arXiv:2404.10830)."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), ascending
    for document in documents[np.argsort(-lengths[documents], kind="stable")]:
        need = int(lengths[document])
        at = bisect_left(room, (need, -1))
        if at < len(room):
            free, row = room.pop(at)
            rows[row].append(int(document))
        else:
            free, row = row_tokens, len(rows)
            rows.append([int(document)])
        if free > need:
            insort(room, (free - need, row))
    return rows
