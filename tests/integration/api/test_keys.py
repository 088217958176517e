"""API keys: made, listed and revoked over HTTP by a project's admins, and by the operator on the machine itself."""

import time

import pytest

from api.keys import __main__ as console
from db import audit, keys
from db.models import ApiKey
from db.scopes import Scope
from tests.integration.api.live import SECRET, Live, client, error, until


def key_of(live: Live, scope: Scope) -> tuple[str, str]:
    """The id and the token of a new key of `mine`."""
    with live.database.write() as session:
        key, token = keys.create(session, live.project_id, f"a {scope.value} key", SECRET, scope=scope)
    return key.id, token


def made(live: Live, **changes) -> dict:
    answer = live.mine.post("/v1/keys", json={"name": "notebook", "scope": "write", **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


def revoked(live: Live, key_id: str) -> dict:
    answer = live.mine.post(f"/v1/keys/{key_id}/revoke")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_new_key_opens_its_project_as_far_as_its_scope_reaches(live: Live):
    with client(live.url, made(live, scope="read")["token"]) as reading:
        me = reading.get("/v1/me").json()
        assert (me["project"]["id"], me["key"]["scope"]) == (live.project_id, "read")
        refused = error(reading.post("/v1/jobs", json={}), 403)
    assert (refused["code"], refused["param"]) == ("missing_scope", "write")
    assert "a key with the scope 'write'" in refused["message"]


def test_the_token_is_shown_once_and_kept_nowhere(live: Live):
    answer = live.mine.post("/v1/keys", json={"name": "my laptop", "scope": "admin"})
    token, key_id = answer.json()["token"], answer.json()["id"]
    assert answer.headers["cache-control"] == "no-store"
    assert token not in live.mine.get("/v1/keys").text
    shown = live.mine.get(f"/v1/keys/{key_id}").json()
    assert (shown["name"], shown["scope"], shown["prefix"]) == ("my laptop", "admin", token[:9])
    assert "token" not in shown


def test_a_key_tells_when_it_was_last_used(live: Live):
    key = made(live)
    assert key["last_used_at"] is None
    with client(live.url, key["token"]) as using:
        assert using.get("/v1/me").status_code == 200
    until(lambda: live.mine.get(f"/v1/keys/{key['id']}").json()["last_used_at"] is not None)


def test_a_key_ends_when_it_was_told_to(live: Live):
    key_id, token = key_of(live, Scope.READ)
    with client(live.url, token) as using:
        assert using.get("/v1/me").status_code == 200
        with live.database.write() as session:
            session.get_one(ApiKey, key_id).expires_at = 1.0
        until(lambda: using.get("/v1/me").status_code == 401, 1.5)
    key = made(live, expires_after_s=3600)
    assert key["expires_at"] - key["created_at"] == pytest.approx(3600)


def test_a_revoked_key_is_refused_within_a_second_and_stays_listed(live: Live):
    key = made(live)
    with client(live.url, key["token"]) as using:
        assert using.get("/v1/jobs").status_code == 200
        assert revoked(live, key["id"])["revoked_at"] is not None
        until(lambda: using.get("/v1/jobs").status_code == 401, 1.5)
    listed = {row["id"]: row["revoked_at"] for row in live.mine.get("/v1/keys", params={"limit": 100}).json()["data"]}
    assert listed[key["id"]] is not None
    assert revoked(live, key["id"])["revoked_at"] == listed[key["id"]]


def test_a_project_is_not_left_without_the_key_that_is_in_use(live: Live):
    own = live.mine.get("/v1/me").json()["key"]["id"]
    assert error(live.mine.post(f"/v1/keys/{own}/revoke"), 409)["code"] == "key_in_use"


def test_an_admin_neither_makes_nor_revokes_an_operators_key(live: Live):
    assert error(live.mine.post("/v1/keys", json={"name": "x", "scope": "operator"}), 422)["param"] == "scope"
    key_id, token = key_of(live, Scope.OPERATOR)
    assert error(live.mine.post(f"/v1/keys/{key_id}/revoke"), 403)["param"] == "operator"
    with client(live.url, token) as operator:
        assert operator.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scope": "read"}, "name"),
        ({"name": "  ", "scope": "read"}, "name"),
        ({"name": "a\0b", "scope": "read"}, "name"),
        ({"name": "x", "scope": "all"}, "scope"),
        ({"name": "x", "scope": "read", "expires_after_s": 5}, "expires_after_s"),
        ({"name": "x", "scope": "read", "expires_after_s": True}, "expires_after_s"),
        ({"name": "x", "scope": "read", "project_id": "proj-1"}, "project_id"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused_with_the_place(live: Live, body: dict, param: str):
    assert error(live.mine.post("/v1/keys", json=body), 422)["param"] == param


def test_keys_that_come_and_go_are_in_the_audit_log(live: Live):
    key = made(live, name="audited")
    revoked(live, key["id"])
    entries = live.mine.get("/v1/audit", params={"object_id": key["id"]}).json()["data"]
    assert [entry["action"] for entry in entries] == ["key.revoke", "key.create"]
    assert entries[1]["details"] == {"name": "audited", "scope": "write", "expires_after_s": None}


def test_an_admin_sees_the_audit_log_of_its_own_project_alone(live: Live):
    key = made(live)
    assert live.theirs.get("/v1/audit", params={"object_id": key["id"]}).json()["data"] == []
    assert error(live.theirs.get("/v1/audit", params={"project_id": live.project_id}), 404)
    assert {row["project_id"] for row in live.mine.get("/v1/audit").json()["data"]} == {live.project_id}


@pytest.fixture
def _operator(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(live.service.blobs.root.parent))
    monkeypatch.setenv("TRAINYARD_DATABASE_URL", live.database.url)
    monkeypatch.setenv("TRAINYARD_SECRET", SECRET.decode())


def made_there(capsys: pytest.CaptureFixture[str], project: str, *more: str) -> tuple[str, str]:
    """The id and the token of a new key."""
    assert console.main(["create", "--project", project, "--name", "notebook", *more]) == 0
    told = capsys.readouterr()
    return told.err.split()[0], told.out.strip()


@pytest.mark.usefixtures("_operator")
def test_the_operator_makes_keys_of_any_project_and_scope(live: Live, capsys: pytest.CaptureFixture[str]):
    _, token = made_there(capsys, "a-new-project", "--scope", "read")
    with client(live.url, token) as asking:
        me = asking.get("/v1/me").json()
    assert (me["project"]["name"], me["key"]["scope"]) == ("a-new-project", "read")


@pytest.mark.usefixtures("_operator")
def test_a_key_that_the_operator_revokes_is_refused_within_a_second(live: Live, capsys: pytest.CaptureFixture[str]):
    key_id, token = made_there(capsys, "a-project")
    with client(live.url, token) as asking:
        assert asking.get("/v1/jobs").status_code == 200
        assert console.main(["revoke", key_id]) == 0
        until(lambda: asking.get("/v1/jobs").status_code == 401, 1.5)
    with live.database.read() as session:
        entries, _ = audit.page(session, after=None, limit=5, object_id=key_id)
    assert [(entry.action, entry.key_id) for entry in entries] == [("key.revoke", None), ("key.create", None)]


@pytest.mark.usefixtures("_operator")
def test_a_key_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]):
    assert console.main(["revoke", "key-none"]) == 1
    assert "no active key 'key-none'" in capsys.readouterr().err


@pytest.mark.usefixtures("_operator")
def test_the_list_shows_every_key_and_no_token(capsys: pytest.CaptureFixture[str]):
    key_id, token = made_there(capsys, "listed")
    assert console.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"{key_id}\tlisted\tnotebook\tadmin\t" in listed
    assert token not in listed


@pytest.mark.usefixtures("_operator")
def test_the_list_tells_times_in_utc(live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    key_id, _ = made_there(capsys, "somewhere")
    with live.database.write() as session:
        session.get_one(ApiKey, key_id).created_at = 0.5
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert console.main(["list"]) == 0
    finally:
        monkeypatch.undo()
        time.tzset()
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(key_id))
    assert "\t1970-01-01 00:00:00 UTC\t" in row
