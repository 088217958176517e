"""`trainyard keys` and `trainyard spend` against a real service; nothing trains here."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cli.main import main
from tests.integration.api.live import Live, claimed, client, served, settled, submitted, until

Run = Callable[..., tuple[str, str]]
PRICE = 3.0


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    shutil.copyfile(sqlite_template, home / "trainyard.db")
    with served(home, f"sqlite:///{home}/trainyard.db", price_per_hour=PRICE) as running:
        yield running


@pytest.fixture
def run(live: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with the project's admin key; return its stdout and stderr when its exit code is the expected one."""
    monkeypatch.setenv("TRAINYARD_URL", live.url)
    monkeypatch.setenv("TRAINYARD_API_KEY", live.mine.headers["authorization"].removeprefix("Bearer "))

    def trainyard(*arguments: str, expect: int = 0) -> tuple[str, str]:
        code = main(list(arguments))
        streams = capsys.readouterr()
        assert code == expect, streams.err
        return streams.out, streams.err

    return trainyard


def created(run: Run, *options: str) -> dict:
    return json.loads(run("keys", "create", "--name", "notebook", *options, "--json")[0])


def status_of(live: Live, token: str) -> int:
    with client(live.url, token) as using:
        return using.get("/v1/jobs").status_code


def test_the_token_of_a_new_key_is_all_that_stdout_gets(live: Live, run: Run) -> None:
    out, err = run("keys", "create", "--name", "notebook")
    token = out.strip()
    assert token.startswith("ty-")
    assert "(write) created; its token is shown only this once" in err
    assert status_of(live, token) == httpx.codes.OK
    assert token not in "".join(run("keys", "ls"))


def test_a_key_has_the_scope_and_the_end_that_it_was_given(run: Run) -> None:
    key = created(run, "--scope", "read", "--expires-days", "2")
    assert key["scope"] == "read"
    assert key["expires_at"] - key["created_at"] == pytest.approx(2 * 86_400)


def test_keys_are_listed_with_their_scopes(run: Run) -> None:
    key = created(run, "--scope", "admin")
    assert run("keys", "ls", "-q")[0].split()[0] == key["id"]
    heading, first, *_ = run("keys", "ls", "--limit", "1")[0].splitlines()
    assert heading.split("\t")[:4] == ["id", "name", "scope", "begins with"]
    assert first.split("\t")[:4] == [key["id"], "notebook", "admin", key["token"][:9]]


def test_a_revoked_key_opens_nothing_and_stays_listed(live: Live, run: Run) -> None:
    key = created(run)
    assert run("keys", "revoke", key["id"])[0].strip() == key["id"]
    until(lambda: status_of(live, key["token"]) == httpx.codes.UNAUTHORIZED, 5)
    (listed,) = json.loads(run("keys", "ls", "--limit", "1", "--json")[0])
    assert listed["revoked_at"] is not None


def test_a_key_to_revoke_is_named_by_more_than_a_letter(run: Run) -> None:
    assert "too short for the id of a key" in run("keys", "revoke", "0", expect=2)[1]
    run("keys", "revoke", "key-zzzz", expect=4)


def test_the_key_in_use_is_not_revoked(live: Live, run: Run) -> None:
    own = live.mine.get("/v1/me").json()["key"]["id"]
    assert "this is the key that you are using" in run("keys", "revoke", own, expect=65)[1]


def test_a_key_without_the_scope_manages_no_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    token = created(run, "--scope", "write")["token"]
    monkeypatch.setenv("TRAINYARD_API_KEY", token)
    run("keys", "ls", expect=3)


def test_a_budget_of_a_key_is_set_and_shown_with_what_is_used(run: Run) -> None:
    key = created(run)
    out, _ = run("keys", "budget", key["id"], "--worker-s", "7200", "--active-jobs", "2")
    fields = dict(line.split("\t") for line in out.splitlines())
    assert fields["workers this month"] == "0s used of 2h00m"
    assert fields["jobs at a time"] == "0 used of 2"
    assert fields["stored"] == "0 B used"
    row = json.loads(run("keys", "budget", key["id"], "--storage-bytes", "5", "--json")[0])
    assert (row["storage_bytes"], row["worker_s"]) == (5, None)


@pytest.mark.parametrize("amount", ["nan", "inf"])
def test_a_budget_is_a_finite_number(run: Run, amount: str) -> None:
    key = created(run)
    assert "not a finite number" in run("keys", "budget", key["id"], "--worker-s", amount, expect=2)[1]


def test_spend_is_shown_by_kind_with_its_cost(live: Live, run: Run) -> None:
    job_id = submitted(live)
    settled(live, job_id, claimed(live, job_id))
    report = json.loads(run("spend", "--by", "kind", "--json")[0])
    assert [group["of"] for group in report["data"]] == ["pretrain"]
    out, err = run("spend", "--by", "kind")
    heading, first = out.splitlines()
    assert heading.split("\t") == ["kind", "worker time", "attempts", "cost"]
    assert first.split("\t")[::2] == ["pretrain", str(report["data"][0]["attempts"])]
    assert f"{report['since']} to {report['until']}" in err


def test_spend_of_other_days_keys_and_kinds_is_left_out(run: Run) -> None:
    key = created(run)
    for options in (("--since", "2001-01-01", "--until", "2001-01-31"), ("--key", key["id"]), ("--kind", "dpo")):
        assert json.loads(run("spend", *options, "--json")[0])["data"] == []


def test_days_in_the_wrong_order_are_refused(run: Run) -> None:
    assert "is later than" in run("spend", "--since", "2026-02-01", "--until", "2026-01-01", expect=65)[1]
