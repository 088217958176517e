"""`python -m api.keys`: keys made, listed and revoked by the operator."""

import pytest

from api import keys
from tests.integration.api.live import SECRET, Live, client, until


@pytest.fixture
def _operator(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(live.service.blobs.root.parent))
    monkeypatch.setenv("TRAINYARD_DATABASE_URL", live.database.url)
    monkeypatch.setenv("TRAINYARD_SECRET", SECRET.decode())


pytestmark = pytest.mark.usefixtures("_operator")


def made(capsys: pytest.CaptureFixture[str], project: str) -> tuple[str, str]:
    """The id and the token of a new key."""
    assert keys.main(["create", "--project", project, "--name", "notebook"]) == 0
    told = capsys.readouterr()
    return told.err.split()[0], told.out.strip()


def test_a_new_key_opens_its_project_and_no_other(live: Live, capsys: pytest.CaptureFixture[str]):
    _, token = made(capsys, "a-new-project")
    with client(live.url, token) as asking:
        assert asking.get("/v1/me").json()["project"]["name"] == "a-new-project"


def test_a_revoked_key_is_refused_within_a_second(live: Live, capsys: pytest.CaptureFixture[str]):
    key_id, token = made(capsys, "a-project")
    with client(live.url, token) as asking:
        assert asking.get("/v1/jobs").status_code == 200
        assert keys.main(["revoke", key_id]) == 0
        until(lambda: asking.get("/v1/jobs").status_code == 401, 1.5)


def test_a_key_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]):
    assert keys.main(["revoke", "key-none"]) == 1
    assert "no key 'key-none'" in capsys.readouterr().err


def test_the_list_shows_every_key_and_no_token(capsys: pytest.CaptureFixture[str]):
    key_id, token = made(capsys, "listed")
    assert keys.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"{key_id}\tlisted\tnotebook\t" in listed
    assert token not in listed
