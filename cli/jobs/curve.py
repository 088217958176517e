"""Curves drawn in a few rows of text."""

import itertools
from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def columns_of(values: Sequence[float], width: int) -> list[float]:
    """Average the values into at most `width` columns."""
    count = min(width, len(values))
    edges = [len(values) * column // count for column in range(count + 1)] if count else []
    return [sum(values[low:high]) / (high - low) for low, high in itertools.pairwise(edges)]


def plot(values: Sequence[float], width: int = 60, height: int = 5) -> list[str]:
    """Draw rows of bars from the smallest to the largest column, top row first; a constant series is a flat line."""
    heights = columns_of(values, width)
    if not heights:
        return []
    low, high = min(heights), max(heights)
    span = (high - low) or 1.0
    eighths = [1 + round((value - low) / span * (height * 8 - 1)) for value in heights]
    rows = []
    for row in reversed(range(height)):
        cells = (_EIGHTHS[max(0, min(8, eighth - row * 8))] for eighth in eighths)
        rows.append("".join(cells))
    return rows


def labelled_plot(values: Sequence[float], width: int = 60, height: int = 5) -> list[str]:
    """Draw the plot with its largest and smallest value at the left."""
    rows = plot(values, width, height)
    if not rows:
        return []
    heights = columns_of(values, width)
    labels = {0: f"{max(heights):.3f}", height - 1: f"{min(heights):.3f}"}
    return [f"{labels.get(index, ''):>8} ┤{row}" for index, row in enumerate(rows)]
