"""The time that a page takes to redraw its chart, measured in the page itself, in the same way for any renderer.

It is measured from a key press or mouse release (the event's own time stamp) to the frame that shows the last change of
the picture. A canvas is observed by its strokes, an SVG by mutations of its elements; the frame has been painted when a
task posted in it runs.
"""

import time
from collections.abc import Callable

from playwright.sync_api import Page

PROBE = """
(() => {
  const probe = (window.redraw = { selector: "canvas, .js-plotly-plot", changes: 0, changedAt: 0, paintedAt: 0, actedAt: 0 });
  const painted = new MessageChannel();
  let frame = false;
  let told = false;
  painted.port1.onmessage = () => {
    probe.paintedAt = performance.now();
    probe.firstPaintedAt ||= probe.paintedAt;
    told = false;
  };
  const nextFrame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (draw) => nextFrame((at) => {
    frame = true;
    try { draw(at); } finally { frame = false; }
  });
  function changed() {
    probe.changes += 1;
    probe.changedAt = performance.now();
    if (told) return;
    told = true;
    const post = () => painted.port2.postMessage(0);
    if (frame) post();
    else nextFrame(post);
  }
  for (const name of ["stroke", "fill", "drawImage"]) {
    const draw = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...given) {
      if (this.canvas.closest(probe.selector)) changed();
      return draw.apply(this, given);
    };
  }
  const ofChart = (node) => node instanceof Element
    && (node.closest(probe.selector) || node.querySelector(probe.selector));
  new MutationObserver((seen) => {
    if (seen.some(({ target, addedNodes }) => target.closest?.(probe.selector) || [...addedNodes].some(ofChart))) changed();
  }).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  for (const type of ["pointerup", "keydown"])
    window.addEventListener(type, ({ timeStamp }) => { if (!probe.changes) probe.actedAt = timeStamp; }, { capture: true });
})();
"""

_STILL_MS = 1000
_LIMIT_S = 120.0


def settle(page: Page, selector: str) -> None:
    """Start watching a chart once it has been still for a second; PROBE must be the page's first script."""
    page.evaluate("selector => { redraw.selector = selector }", selector)
    _until(page, f"performance.now() - redraw.changedAt > {_STILL_MS}")


def timed(page: Page, act: Callable[[], object]) -> float:
    """Return milliseconds from the input event of `act` to the frame after which the picture stays still for a second."""
    page.evaluate("Object.assign(redraw, { changes: 0, changedAt: 0, paintedAt: 0, actedAt: 0 })")
    act()
    painted = "redraw.changes && redraw.paintedAt >= redraw.changedAt"
    _until(page, f"{painted} && performance.now() - redraw.changedAt > {_STILL_MS}")
    return page.evaluate("redraw.paintedAt - redraw.actedAt")


def _until(page: Page, truth: str) -> None:
    # Not wait_for_function: our page's policy forbids what that does in the page.
    deadline = time.monotonic() + _LIMIT_S
    while not page.evaluate(truth):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the picture did not come to rest: {page.evaluate('redraw')}")
        page.wait_for_timeout(100)
