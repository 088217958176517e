"""A key that asks too often is told when to come again."""

from db import keys
from db.scopes import Scope
from tests.integration.api.live import SECRET, client, error, served


def test_a_key_over_its_rate_is_refused_with_the_seconds_to_wait_and_others_are_not(database_url: str, tmp_path):
    with served(tmp_path, database_url, requests_per_minute=3) as live:
        assert [live.mine.get("/v1/me").status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = live.mine.post("/v1/jobs", json={})
        told = error(answer, 429)
        assert (told["code"], told["type"]) == ("rate_limited", "rate_limit_error")
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert live.theirs.get("/v1/me").status_code == 200
        assert live.mine.get("/healthz").status_code == 200


def test_a_session_counts_for_the_key_it_was_opened_with(database_url: str, tmp_path):
    with served(tmp_path, database_url, requests_per_minute=2) as live:
        with live.database.write() as session:
            _, token = keys.create(session, live.project_id, "browser", SECRET, scope=Scope.READ)
        with client(live.url, token) as browser:
            browser.post("/v1/session", json={"key": token})
            del browser.headers["authorization"]
            assert [browser.get("/v1/jobs").status_code for _ in range(3)] == [200, 200, 429]
