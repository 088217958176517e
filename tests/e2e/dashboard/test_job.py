"""The page of a job: metrics, events, system, config, and artifacts."""

import hashlib
import io
import json
import re
import tarfile
import time
from pathlib import Path
from statistics import median

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.e2e.dashboard.conftest import Open, tabs
from tests.e2e.dashboard.jobs import make_job, text_file, wait_ended
from tests.e2e.dashboard.line import line_to
from tests.e2e.dashboard.past import crowding
from tests.e2e.service import Service

FRESH_S = 4.0
"""The page reads the job every 1.5 s, and the test reads the page four times a second."""
HALF_S = 0.5


@pytest.fixture(scope="module")
def done(service: Service) -> dict:
    """A job that has succeeded."""
    return wait_ended(service, make_job(service, "done", steps=40, checkpoints={"save_steps": 10}))


def table(page: Page, title: str) -> list[list[str]]:
    """Return the rows of a chart's table."""
    rows = page.get_by_role("region", name=title).get_by_role("row").all_inner_texts()
    return [row.split("\t") for row in rows]


@pytest.mark.clock
def test_the_pill_and_the_figures_follow_a_running_job_to_its_end(service: Service, screen: Open) -> None:
    job_id = make_job(service, "followed", steps=600)
    page = screen(f"/jobs/{job_id}").page
    pill = page.get_by_role("main").get_by_text("running", exact=True)
    expect(pill).to_be_visible(timeout=60_000)
    expect(page.get_by_role("img", name=re.compile("^Loss over"))).to_be_visible(timeout=60_000)
    shown_eta = displayed_times_left(page)
    wait_ended(service, job_id)
    expect(page.get_by_role("main").get_by_text("succeeded", exact=True)).to_be_visible(timeout=2000)
    expect(page.get_by_role("img", name=re.compile("^Loss over 600 points"))).to_be_visible(timeout=2000)
    with service.http() as http:
        rows = http.get(f"/v1/jobs/{job_id}/metrics", params={"split": "train", "limit": 1000}).json()["data"]
        events = http.get(f"/v1/jobs/{job_id}/events").json()["data"]
    assert len(shown_eta) >= 5
    for at, left in shown_eta:  # the page shows the service's last estimate
        before = [row for row in rows if row["time"] <= at]
        estimates = [row["values"]["eta_s"] for row in before if row["time"] >= at - FRESH_S or row is before[-1]]
        assert any(abs(left - eta_s) <= 1 for eta_s in estimates), (at, left, estimates)
    end = max(event["time"] for event in events if event["type"] == "checkpoint")
    assert median(errors_of_eta(rows, end)) <= 0.2 * crowding()


def displayed_times_left(page: Page) -> list[tuple[float, float]]:
    """Return the seconds left that the page shows with the times of reading, four times a second until the job ends."""
    shown_eta: list[tuple[float, float]] = []
    sentence = page.get_by_text(re.compile("about .* left"))
    expect(sentence).to_be_visible()
    while texts := sentence.all_inner_texts():
        shown_eta.append((time.time(), seconds(texts[0])))
        page.wait_for_timeout(250)
    return shown_eta


def seconds(text: str) -> float:
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", text))


def errors_of_eta(rows: list[dict], end: float) -> list[float]:
    """Return the relative errors of a job's estimates of the time left, from a quarter of the run to nine tenths.

    The run ends with its last checkpoint. Errors below half a second are ignored: the page shows whole seconds, and a
    fast machine needs only a few of them.
    """
    last = rows[-1]["step"]
    return [
        max(0.0, abs(row["time"] + row["values"]["eta_s"] - end) - HALF_S) / (end - row["time"])
        for row in rows
        if last / 4 <= row["step"] <= last * 0.9
    ]


def test_the_table_equals_the_chart_and_the_service(service: Service, screen: Open, done: dict) -> None:
    page = screen(f"/jobs/{done['id']}/metrics?table=true").page
    expect(page.get_by_role("img", name=re.compile("^Loss over 40 points"))).to_be_visible()
    shown = table(page, "Chart data")
    with service.http() as http:
        rows = http.get(f"/v1/jobs/{done['id']}/metrics", params={"split": "train"}).json()["data"]
    assert [row[0] for row in shown[1:41]] == [str(row["step"]) for row in rows]
    assert [float(row[3]) for row in shown[1:41]] == pytest.approx([row["values"]["loss"] for row in rows], rel=1e-3)


def test_how_charts_are_drawn_survives_a_reload(screen: Open, done: dict) -> None:
    page = screen(f"/jobs/{done['id']}/metrics").page
    page.get_by_role("combobox").select_option("tokens")
    page.get_by_label("Log y").check()
    page.get_by_label("Smoothing").fill("0.9")
    expect(page).to_have_url(re.compile(r"x=tokens.*smooth=0\.9"))
    page.reload()
    expect(page.get_by_role("combobox")).to_have_value("tokens")
    expect(page.get_by_label("Log y")).to_be_checked()
    expect(page.get_by_text("loss, smoothed").first).to_be_visible()


def test_events_are_filtered_linked_and_masked(service: Service, screen: Open, done: dict) -> None:
    page = screen(f"/jobs/{done['id']}/events").page
    expect(page.get_by_text("checkpoint of step 20 saved")).to_be_visible()
    line = page.get_by_role("link", name="1", exact=True)
    line.click()
    expect(page).to_have_url(re.compile("line=1"))
    page.get_by_label("Level").select_option("error")
    expect(page.get_by_text("No events of level error")).to_be_visible()


@pytest.fixture(scope="module")
def failed(service: Service) -> dict:
    """A job that fails because it has no rows."""
    spec = {"validation_file": None, "exclude_rows": [1]}
    with service.http() as http:
        file_id = http.post("/v1/files", data={"purpose": "pretrain"}, files={"file": ("a.txt", b"a\n")}).json()["id"]
    job = wait_ended(service, make_job(service, "failing", **spec, training_file=file_id))
    assert job["status"] == "failed", job
    return job


def test_a_failed_job_shows_code_cause_fix_and_its_first_error(service: Service, screen: Open, failed: dict) -> None:
    with service.http() as http:
        errors = http.get(f"/v1/jobs/{failed['id']}/events", params={"level": "error", "order": "asc"}).json()["data"]
    opened = screen(f"/jobs/{failed['id']}/events")
    alert = opened.page.get_by_role("alert")
    expect(alert.get_by_text(failed["error"]["code"], exact=True)).to_be_visible()
    expect(alert).to_contain_text(failed["error"]["message"][:40])
    expect(alert).to_contain_text(failed["error"]["mend"][:40])
    opened.page.get_by_role("link", name="First error").click()
    expect(opened.page).to_have_url(re.compile(rf"line={errors[0]['seq']}$"))
    expect(opened.page.locator("[data-chosen=true]")).to_contain_text(errors[0]["message"][:40])
    opened.check()


def test_a_page_open_on_a_failed_job_follows_its_retry(service: Service, screen: Open, failed: dict) -> None:
    page = screen(f"/jobs/{failed['id']}/events").page
    expect(page.get_by_role("alert")).to_be_visible()
    with service.http() as http:
        assert http.post(f"/v1/jobs/{failed['id']}/retry").status_code == 200
    expect(page.get_by_text("retried on request")).to_be_visible(timeout=15_000)
    expect(page.get_by_text("attempt 2")).to_be_visible(timeout=30_000)


def test_the_config_is_what_the_worker_ran_and_its_copy_makes_the_same_job(
    service: Service, screen: Open, done: dict, tmp_path: Path
) -> None:
    page = screen(f"/jobs/{done['id']}/config").page
    row = page.get_by_role("row", name=re.compile("max_steps"))
    expect(row).to_contain_text("40")
    expect(row).to_contain_text("set")
    expect(page.get_by_role("row", name=re.compile("learning_rate"))).to_contain_text("auto")
    expect(page.get_by_role("row", name=re.compile("^weight_decay"))).to_contain_text("default")
    page.get_by_role("button", name="Copy as YAML").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert yaml.safe_load(copied) == done["spec"]
    (tmp_path / "job.yaml").write_text(copied)
    again = json.loads(service.trainyard("jobs", "create", "-f", tmp_path / "job.yaml", "--json").stdout)
    with service.http() as http:
        http.post(f"/v1/jobs/{again['id']}/cancel")
    assert again["spec"] == done["spec"]


def test_a_downloaded_model_matches_its_checksums(screen: Open, done: dict, tmp_path: Path) -> None:
    page = screen(f"/jobs/{done['id']}/artifacts").page
    expect(page.get_by_text("best", exact=True)).to_be_visible()
    expect(page.get_by_text("last", exact=True)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="tar of done/1").click()
    with tarfile.open(fileobj=io.BytesIO(download.value.path().read_bytes())) as archive:
        sums = dict(line.split("  ")[::-1] for line in archive.extractfile("SHA256SUMS").read().decode().splitlines())
        assert sums
        for name, sha256 in sums.items():
            assert hashlib.sha256(archive.extractfile(name).read()).hexdigest() == sha256
    page.get_by_role("button", name="checksums of done/1").click()
    expect(page.get_by_role("dialog")).to_contain_text(next(iter(sums.values())))


def test_a_job_is_paused_resumed_and_cancelled_from_its_page(service: Service, screen: Open) -> None:
    job_id = make_job(service, "stopped-and-gone-on", steps=100_000)
    page = screen(f"/jobs/{job_id}").page
    expect(page.get_by_text(re.compile("about .* left"))).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("main").get_by_text("paused", exact=True)).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("main").get_by_text("cancelled", exact=True)).to_be_visible(timeout=60_000)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_tab_passes_the_checks(screen: Open, done: dict, shots: Path, theme: str) -> None:
    opened = screen(f"/jobs/{done['id']}/metrics?table=true", theme)
    parts = {"metrics": "Loss", "events": "checkpoint of step 20 saved", "system": "No GPU",
             "config": "hyperparameters", "artifacts": "Created by this job"}  # fmt: skip
    for part, sign in parts.items():
        opened.open(f"/jobs/{done['id']}/{part}")
        expect(opened.page.get_by_text(sign).first).to_be_visible()
        opened.page.screenshot(path=shots / f"job-{part}-{theme}.png")
        opened.check_both_widths()


def test_a_dropped_stream_leaves_no_gap_and_doubles_nothing(
    service: Service, browser: Browser, signed_in: dict
) -> None:
    job_id = make_job(service, "torn", steps=250)
    with line_to(service.state()["url"]) as line, tabs(browser, line.url, signed_in) as open_screen:
        page = open_screen(f"/jobs/{job_id}/metrics?table=true", allow="net::ERR_").page
        expect(page.get_by_role("img", name=re.compile("^Loss over"))).to_be_visible(timeout=60_000)
        for _ in range(2):
            assert line.cut() >= 1
            page.wait_for_timeout(700)
            line.mend()
            with page.expect_response(re.compile(r"/stream\?after="), timeout=10_000):
                pass
        wait_ended(service, job_id)
        expect(page.get_by_role("img", name=re.compile("^Loss over 250 points"))).to_be_visible(timeout=10_000)
        steps = [row[0] for row in table(page, "Chart data")[1:251]]
        assert steps == [str(step) for step in range(1, 251)]


def test_a_page_of_a_job_that_is_not_there_says_so(service: Service, screen: Open) -> None:
    assert text_file(service)
    expect(screen("/jobs/job-none", allow="status of 404").page.get_by_role("alert")).to_contain_text("there is no job")
