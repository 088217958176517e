"""Reads the pixels of a chart. Places are shares of the plot, from its left and from its bottom."""

from playwright.sync_api import Locator

READ_BACK = "Canvas2D: Multiple readback"
"""Chromium's warning about reading a canvas as `heights` does."""

LINE = {"light": (0, 114, 178), "dark": (86, 180, 233)}
MARK = {"light": (155, 28, 28), "dark": (245, 163, 163)}
_PIXELS = """(canvas, [colour, left, right]) => {
  if (!canvas.clientWidth) return null; // not painted yet, or replaced
  const over = canvas.parentElement.querySelector(".u-over"), scale = canvas.width / canvas.clientWidth;
  const [x, y] = [over.offsetLeft * scale, over.offsetTop * scale];
  const [width, height] = [over.clientWidth * scale, over.clientHeight * scale];
  const wide = Math.max(1, Math.round(width * (right - left)));
  const { data } = canvas.getContext("2d").getImageData(x + width * left, y, wide, height);
  const found = [];
  for (let at = 0; at < data.length; at += 4) {
    const apart = colour.reduce((sum, part, index) => sum + Math.abs(part - data[at + index]), 0);
    if (data[at + 3] > 150 && apart < 60) found.push(1 - Math.floor(at / 4 / wide) / height);
  }
  return found;
}"""


def heights(chart: Locator, colour: tuple[int, int, int], left: float = 0.0, right: float = 1.0) -> list[float]:
    """Return the heights of all pixels of a colour between two places of the x axis."""
    while (found := chart.locator("canvas").evaluate(_PIXELS, [list(colour), left, right])) is None:
        chart.page.wait_for_timeout(50)
    return found
