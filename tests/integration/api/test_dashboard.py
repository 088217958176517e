"""/: the built dashboard, and what is said where none has been built."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.settings import ApiSettings
from db.settings import StorageSettings
from tests.integration.api.live import BROKER_DOWN, SECRET, served_app

HTML = {"accept": "text/html,application/xhtml+xml"}
SCRIPT = b"console.log('a page');" * 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("dist")
    (built / "assets").mkdir()
    (built / "index.html").write_text("<!doctype html><title>Trainyard</title>")
    (built / "assets" / "index-1a2b.js").write_bytes(SCRIPT)
    return built


def browser(home: Path, folder: Path, sqlite_template: Path) -> Iterator[httpx.Client]:
    settings = ApiSettings(secret=SECRET.decode(), page_dir=folder)
    app = create_app(
        settings, StorageSettings(home=home, database_url=f"sqlite:///{sqlite_template}"), None, BROKER_DOWN
    )
    with served_app(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, folder: Path, sqlite_template: Path) -> Iterator[httpx.Client]:
    yield from browser(tmp_path_factory.mktemp("home"), folder, sqlite_template)


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/job-1/metrics", "/compare?runs=job-1,job-2"])
def test_every_address_of_the_page_answers_with_its_document(page: httpx.Client, path: str):
    answer = page.get(path, headers=HTML)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"


def test_a_file_with_a_hash_in_its_name_is_kept_for_good_and_sent_packed(page: httpx.Client):
    answer = page.get("/assets/index-1a2b.js")
    assert answer.content == SCRIPT
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(gzip.compress(SCRIPT, 9))
    assert page.get("/assets/index-1a2b.js", headers={"accept-encoding": "identity"}).content == SCRIPT


def test_an_unchanged_document_is_not_sent_again(page: httpx.Client):
    etag = page.get("/", headers=HTML).headers["etag"]
    assert page.get("/", headers={**HTML, "if-none-match": etag}).status_code == 304


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/v1/nothing", "text/html"),
        ("/v1/nothing", "*/*"),
        ("/nothing", "application/json"),
        ("/assets/gone.js", "*/*"),
    ],
)
def test_what_is_no_address_of_the_page_is_a_404_in_the_envelope(page: httpx.Client, path: str, accept: str):
    answer = page.get(path, headers={"accept": accept})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "route_not_found")


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/%2e%2e/pyproject.toml", "/assets/..%2f..%2fpyproject.toml"])
def test_no_path_leads_out_of_the_folder(page: httpx.Client, path: str):
    assert page.get(path).status_code == 404


def test_where_nothing_has_been_built_the_page_says_how(tmp_path: Path, sqlite_template: Path):
    for page in browser(tmp_path, tmp_path / "dist", sqlite_template):
        answer = page.get("/", headers=HTML)
        assert answer.status_code == 503
        assert "make page" in answer.text
