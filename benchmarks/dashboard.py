"""The dashboard with 5,000 jobs and a run of 100,000 steps, and its chart's redraws against MLflow's page.

Both services run on this machine, ours as API and broker, MLflow 3.17 as `mlflow server`, both on SQLite; one headless
Chromium shows both pages in windows of 1280 x 800. Both hold the same loss of the same 100,000 steps, with a spike of
one step and no other metric, so that either page has one chart.

Measured in turn on both, through each page's own controls (benchmarks/harness/redraw.py says how):

- axis: the x axis from steps to the time since the start and back: the same figures drawn in another way.
- zoom: a third of the chart selected with the mouse. MLflow requests 320 points of that range from its server; ours
  draws what it has, 2,000 points of the run.
- smoothing: the slider moved by one key press. MLflow smooths what it has in the page, at most 320 points; ours asks
  the service, which smooths all 100,000 and sends those that stand out.
- reload: from the start of the navigation to the chart's last change.

The ratio is the smaller one of axis and zoom, which redraw a chart without computing anything; all four are reported.

Measured for ours alone: the time from the navigation to the first rows of the jobs and the duration of their request,
the largest contentful paint with 500 jobs and with 5,000, the time from the curve's data to its first frame, and whether
the spike is visible: pixels of the line in the upper tenth of the chart.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.children import history
from benchmarks.harness import peer
from benchmarks.harness.load import Call, send
from benchmarks.harness.redraw import PROBE, settle, timed
from benchmarks.harness.report import emit
from benchmarks.harness.service import Service, serve_api
from db.session import Database

GOAL = 10.0
JOBS, STEPS = 5000, 100_000
_BATCH_STEPS = 1000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FIRST_ROWS_S, _PAINT_MS, _LCP_MS, _MOST_ROWS = 1.0, 300.0, 1000.0, 50

_LCP = """() => new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries().at(-1).startTime))
  .observe({ type: "largest-contentful-paint", buffered: true }))"""
_DATA_TO_PAINT = """() => redraw.firstPaintedAt - performance.getEntriesByType("resource")
  .filter(({ name }) => name.includes("/metrics/loss")).at(0).responseEnd"""
_SPIKE = """() => {
  const canvas = document.querySelector(".u-wrap canvas"), over = document.querySelector(".u-over");
  const scale = canvas.width / canvas.clientWidth, [left, top] = [over.offsetLeft * scale, over.offsetTop * scale];
  const [width, height] = [over.clientWidth * scale, over.clientHeight * scale / 10];
  const { data } = canvas.getContext("2d").getImageData(left + width * 0.6, top, width * 0.05, height);
  // The line's blue, and neither the grid's grey nor the paper.
  return data.some((_, at) => at % 4 === 0 && data[at + 3] > 99 && data[at + 2] > data[at] + 60);
}"""


def chromium() -> str:
    found = os.environ.get("TRAINYARD_CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise SystemExit("no Chromium on this machine; TRAINYARD_CHROMIUM names one")
    return found


class Ours:
    """Open our page, signed in."""

    chart = ".u-wrap"

    def __init__(self, browser: Browser, service: Service) -> None:
        self.url = f"http://127.0.0.1:{service.port}"
        self.page = new_page(browser)
        self.page.goto(f"{self.url}/#key={service.key}")
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("navigation", name="Pages").wait_for()

    def show(self, job_id: str) -> None:
        self.page.goto(f"{self.url}/jobs/{job_id}/metrics")
        self.page.locator(self.chart).wait_for()
        settle(self.page, self.chart)

    def axis(self, to_time: bool) -> float:
        self.page.locator("fieldset select").focus()
        return timed(self.page, lambda: self.page.keyboard.press("t" if to_time else "s"))

    def smoothing(self, more: bool) -> float:
        self.page.get_by_label("Smoothing").focus()
        return timed(self.page, lambda: self.page.keyboard.press("ArrowRight" if more else "ArrowLeft"))

    def zoom(self) -> float:
        drag(self.page, ".u-over")
        return timed(self.page, self.page.mouse.up)


class Theirs:
    """Open MLflow's page of the run's metrics."""

    chart = ".js-plotly-plot"

    def __init__(self, browser: Browser, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.page = new_page(browser)

    def show(self, run_id: str) -> None:
        self.page.goto("about:blank")  # an address that differs after its # alone would not be a new page
        self.page.goto(f"{self.url}/#/experiments/0/runs/{run_id}/model-metrics")
        self.page.locator(f"{self.chart} path.js-line").first.wait_for()
        settle(self.page, self.chart)

    def axis(self, to_time: bool) -> float:
        self._open_menu()
        item = self.page.get_by_role("menuitemcheckbox", name="Time (relative)" if to_time else "Step", exact=True)
        return timed(self.page, item.click)

    def smoothing(self, more: bool) -> float:
        self._open_menu()
        self.page.get_by_role("slider").focus()
        return timed(self.page, lambda: self.page.keyboard.press("ArrowRight" if more else "ArrowLeft"))

    def zoom(self) -> float:
        self.page.keyboard.press("Escape")
        drag(self.page, ".js-plotly-plot .nsewdrag")
        return timed(self.page, self.page.mouse.up)

    def _open_menu(self) -> None:
        if not self.page.get_by_role("menu").count():
            self.page.get_by_label("Configure charts").click()
            self.page.get_by_role("slider").wait_for()


def new_page(browser: Browser) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(180_000)
    page.add_init_script(PROBE)
    return page


def drag(page: Page, selector: str) -> None:
    box = page.locator(selector).first.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, y, steps=3)
    page.mouse.move(box["x"] + box["width"] * 2 / 3, y)


def reload_ms(side: Ours | Theirs, run_id: str) -> float:
    side.show(run_id)
    return side.page.evaluate("redraw.paintedAt")


def log_run(port: int, figures: Sequence[dict[str, Any]]) -> str:
    """Log the same loss to MLflow and return the run's id."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def post(path: str, body: dict[str, Any]) -> Any:
        call = Call("POST", f"/api/2.0/mlflow/runs/{path}", json.dumps(body).encode())
        return json.loads(send(connection, call, {"content-type": "application/json"}))

    run_id = post("create", {"experiment_id": "0", "start_time": 1, "run_name": "long-run"})["run"]["info"]["run_id"]
    for start in range(0, len(figures), _BATCH_STEPS):
        metrics = [
            {
                "key": "loss",
                "value": row["values"]["loss"],
                "timestamp": int(row["created_at"] * 1000),
                "step": row["step"],
            }
            for row in figures[start : start + _BATCH_STEPS]
        ]
        post("log-batch", {"run_id": run_id, "metrics": metrics})
    connection.close()
    return run_id


def look_at_jobs(ours: Ours, rounds: int) -> dict[str, float]:
    """Measure the list: medians of the first rows and of the largest contentful paint, and the rows that a request returns."""
    rows_ms, lcp_ms, rows = [], [], 0
    for _ in range(rounds):
        ours.page.goto(f"{ours.url}/jobs")
        ours.page.locator("tbody tr").first.wait_for()
        rows_ms.append(ours.page.evaluate("performance.now()"))
        lcp_ms.append(ours.page.evaluate(_LCP))
        rows = ours.page.locator("tbody tr").count()
    return {"first_rows_s": median(rows_ms) / 1000, "lcp_ms": median(lcp_ms), "rows_a_request": rows}


def measure(ours: Ours, theirs: Theirs, job_id: str, run_id: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Run every change on both pages in every round; the pages take turns to go first."""
    times: dict[str, list[tuple[float, float]]] = {"axis": [], "smoothing": [], "zoom": [], "reload": []}
    for number in range(rounds):
        sides: list[tuple[Ours | Theirs, str]] = [(ours, job_id), (theirs, run_id)]
        told: dict[str, dict[type, float]] = {name: {} for name in times}
        for side, run in sides if number % 2 == 0 else sides[::-1]:
            told["reload"][type(side)] = reload_ms(side, run)
            changes: list[tuple[str, Callable[[], float]]] = [
                ("axis", lambda side=side: (side.axis(True) + side.axis(False)) / 2),
                ("smoothing", lambda side=side: (side.smoothing(True) + side.smoothing(True)) / 2),
                ("zoom", side.zoom),
            ]
            for name, change in changes:
                told[name][type(side)] = change()
        for name, pair in told.items():
            times[name].append((pair[Ours], pair[Theirs]))
            print(
                f"round {number + 1} {name:<10} ours {pair[Ours]:>7.1f} ms   MLflow {pair[Theirs]:>7.1f} ms", flush=True
            )
    return times


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are stopped then too
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    peer.install()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-bench-")))
        service = stack.enter_context(serve_api(folder / "home"))
        _, port = stack.enter_context(peer.serve(folder / "mlflow"))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        stack.callback(browser.close)
        database = Database(service.database_url)
        project_id, figures = history.project_of(database), history.curve(options.steps, options.steps * 5 // 8)
        ours, theirs = Ours(browser, service), Theirs(browser, port)
        history.add_runs(database, project_id, 500)
        few = look_at_jobs(ours, options.rounds)
        history.add_runs(database, project_id, options.jobs - 500)
        many = look_at_jobs(ours, options.rounds)
        job_id, run_id = history.add_run(database, project_id, "long-run", figures), log_run(port, figures)
        database.close()
        times = measure(ours, theirs, job_id, run_id, options.rounds)
        paints = [(ours.show(job_id), ours.page.evaluate(_DATA_TO_PAINT))[1] for _ in range(options.rounds)]
        spike_seen = ours.page.evaluate(_SPIKE)
    tell(few, many, times, median(paints), spike_seen)


def tell(
    few: dict[str, float],
    many: dict[str, float],
    times: dict[str, list[tuple[float, float]]],
    paint_ms: float,
    spike_seen: bool,
) -> None:
    ratios = {name: round(median(their / our for our, their in pairs), 1) for name, pairs in times.items()}
    redraw = min(ratios["axis"], ratios["zoom"])
    page = {
        "first_rows_s": round(many["first_rows_s"], 3),
        "rows_a_request": many["rows_a_request"],
        "lcp_500_jobs_ms": round(few["lcp_ms"]),
        "lcp_5000_jobs_ms": round(many["lcp_ms"]),
        "data_to_paint_ms": round(paint_ms, 1),
        "spike_seen": spike_seen,
    }
    print(f"page: {page}\nratios: {ratios}")
    good = many["first_rows_s"] <= _FIRST_ROWS_S and many["rows_a_request"] <= _MOST_ROWS and spike_seen
    good = good and few["lcp_ms"] <= _LCP_MS and paint_ms <= _PAINT_MS
    emit(
        {
            "name": "dashboard",
            "ours": {name: round(median(our for our, _ in pairs), 1) for name, pairs in times.items()},
            "peer": {name: round(median(their for _, their in pairs), 1) for name, pairs in times.items()},
            "ratio": redraw,
            "goal": f"redraw (axis, zoom) >= {GOAL:.0f} times as quick as MLflow {peer.VERSION}'s; first rows of {JOBS} jobs "
            f"<= {_FIRST_ROWS_S} s, LCP of 500 <= {_LCP_MS:.0f} ms, curve of {STEPS} steps painted <= {_PAINT_MS:.0f} ms "
            "after its data, spike seen",
            "holds": redraw >= GOAL and good,
            "ratios": ratios,
            "page": page,
        }
    )


if __name__ == "__main__":
    main()
