"""Loss curves as an SVG: one panel per job, the training loss as a line, held-out losses as dots."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 380, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 30, 34
_TEXT, _MUTED, _GRID = "#1A2027", "#5A6572", "#E1E5EA"
_TRAIN, _HELD_OUT = "#0072B2", "#D55E00"

Points = Sequence[tuple[int, float]]
"""(step, loss), by step."""


class Panel(NamedTuple):
    """The curve of one job; `train` holds at least one point."""

    title: str
    train: Points
    held_out: Points


def draw(panels: Sequence[Panel]) -> str:
    """Draw the panels side by side, each on its own scales. Every point is drawn: nothing is smoothed."""
    width = _WIDTH * len(panels)
    drawn = [f'<g transform="translate({index * _WIDTH} 0)">{_panel(panel)}</g>' for index, panel in enumerate(panels)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}"'
        f' font-family="system-ui, sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="#FFFFFF"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _panel(panel: Panel) -> str:
    losses = [loss for _, loss in (*panel.train, *panel.held_out)]
    ticks = _ticks(min(losses), max(losses))
    last_step = max(1, panel.train[-1][0])

    def place(step: float, loss: float) -> tuple[float, float]:
        share = (loss - ticks[0]) / (ticks[-1] - ticks[0])
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last_step
        return round(x, 1), round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share, 1)

    parts = [f'<text x="{_LEFT}" y="18" fill="{_TEXT}" font-size="13" font-weight="600">{escape(panel.title)}</text>']
    for tick in ticks:
        x, y = place(0, tick)
        parts.append(f'<path d="M{x} {y}H{_WIDTH - _RIGHT}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" fill="{_MUTED}" text-anchor="end">{tick:g}</text>')
    for step in (0, last_step):
        x, _ = place(step, ticks[0])
        anchor = "start" if step == 0 else "end"
        parts.append(f'<text x="{x}" y="{_HEIGHT - 18}" fill="{_MUTED}" text-anchor="{anchor}">step {step}</text>')
    line = " ".join(f"{x},{y}" for x, y in (place(*point) for point in panel.train))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_TRAIN}" stroke-width="1.5"/>')
    for x, y in (place(*point) for point in panel.held_out):
        parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{_HELD_OUT}"/>')
    middle = _WIDTH / 2
    parts.append(f'<text x="{middle - 70}" y="{_HEIGHT - 4}" fill="{_TRAIN}">— training loss</text>')
    parts.append(f'<text x="{middle + 24}" y="{_HEIGHT - 4}" fill="{_HELD_OUT}">● held out</text>')
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight ticks that enclose the range, spaced by 1, 2 or 5 times a power of ten."""
    rough = max(high - low, 1e-6) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]
