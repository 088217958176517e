"""Aliases: promotion through the gate, rollback, and where they may stand."""

import httpx
import pytest

from db import keys, leases
from db.models import Artifact
from db.scopes import Scope
from db.state import JobState
from tests.integration.api.live import CHAT, SECRET, Live, claimed, client, error, published, upload

FILES = {"a": b"1"}


def evaluated(
    live: Live, candidate: str, rival: str, low: float, high: float, figure: str = "eval_loss", **changes: float | None
) -> str:
    """A finished evaluation of a candidate beside a rival; `changes` to its metrics."""
    file_id = upload(live.mine, CHAT, "evals").json()["id"]
    spec = {"kind": "eval", "model": candidate, "compare_to": rival, "eval_file": file_id}
    answer = live.mine.post("/v1/jobs", json=spec)
    assert answer.status_code == 201, answer.text
    job_id = answer.json()["id"]
    fence = claimed(live, job_id)
    name = f"difference/{figure}"
    metrics = {figure: 1.0, name: (low + high) / 2, f"{name}_low": low, f"{name}_high": high, **changes}
    with live.database.write() as session:
        assert leases.settle(session, job_id, fence, state=JobState.SUCCEEDED, result={"metrics": metrics})
    return job_id


def promote(live: Live, model: str, alias: str = "production", **more: object) -> httpx.Response:
    return live.mine.post("/v1/aliases", json={"model": model, "alias": alias, **more})


def tuned(live: Live, name: str, base: Artifact) -> Artifact:
    return published(live, name, FILES, kind="adapter", base_id=base.id)


@pytest.fixture(scope="module")
def base(live: Live) -> Artifact:
    return published(live, "ground", FILES)


def test_a_version_that_is_better_than_its_base_is_promoted_and_found_by_the_alias(live: Live, base: Artifact):
    made = tuned(live, "bot", base)
    job_id = evaluated(live, "bot/1", "ground/1", -0.5, -0.2)
    answer = promote(live, "bot/1")
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["id"], shown["model"], shown["turn"]["number"]) == ("bot@production", "bot/1", 1)
    (compared,) = shown["turn"]["comparisons"]
    assert (compared["job_id"], compared["metric"], compared["high"], compared["passed"]) == (
        job_id,
        "eval_loss",
        -0.2,
        True,
    )
    assert live.mine.get("/v1/adapters/bot@production").json()["id"] == made.id
    file_id = upload(live.mine).json()["id"]
    job = live.mine.post("/v1/jobs", json={"kind": "sft", "model": "bot@production", "training_file": file_id}).json()
    assert job["spec"]["model"] == "bot/1"
    assert [row["id"] for row in live.mine.get("/v1/aliases").json()["data"]] == ["bot@production"]
    assert error(live.mine.delete("/v1/adapters/bot/1"), 409)["message"].startswith("bot@production means bot/1")


def test_without_an_evaluation_the_refusal_says_which_to_run(live: Live, base: Artifact):
    tuned(live, "unseen", base)
    refusal = error(promote(live, "unseen/1"), 409)
    assert refusal["code"] == "evaluation_missing"
    assert '"model": "unseen/1", "compare_to": "ground/1"' in refusal["message"]
    assert live.mine.get("/v1/aliases/unseen@production").status_code == 404


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.4), (-0.3, 0.1)], ids=["worse", "not sure"])
def test_what_is_worse_or_not_surely_better_is_refused_with_the_figures(live: Live, base: Artifact, low, high):
    made = tuned(live, "weak", base)
    evaluated(live, f"weak/{made.version}", "ground/1", low, high)
    answer = promote(live, f"weak/{made.version}")
    refusal = error(answer, 409)
    assert refusal["code"] == "gate_refused"
    assert f"interval {low:+.4g} to {high:+.4g}" in refusal["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_a_share_of_right_answers_must_rise_where_a_loss_must_fall(live: Live, base: Artifact):
    tuned(live, "quiz", base)
    evaluated(live, "quiz/1", "ground/1", 0.01, 0.2, "eval_acc/harness")
    assert promote(live, "quiz/1", metric="eval_loss").json()["error"]["code"] == "figure_missing"
    assert promote(live, "quiz/1").json()["turn"]["comparisons"][0]["greater_is_better"] is True


def test_a_second_version_is_held_against_the_first_and_rolled_back_in_one_call(live: Live, base: Artifact):
    for version in (1, 2):
        tuned(live, "grown", base)
        evaluated(live, f"grown/{version}", "ground/1", -0.5, -0.2)
    assert promote(live, "grown/1").status_code == 201
    assert error(promote(live, "grown/2"), 409)["code"] == "evaluation_missing"
    evaluated(live, "grown/2", "grown/1", -0.1, 0.05)
    assert "against grown/1 (current)" in error(promote(live, "grown/2"), 409)["message"]
    evaluated(live, "grown/2", "grown/1", -0.1, 0.0)
    assert promote(live, "grown/2").json()["turn"]["number"] == 2
    back = live.mine.post("/v1/aliases/grown@production/rollback").json()
    assert (back["model"], back["turn"]["back_to"]) == ("grown/1", 1)
    assert [(turn["number"], turn["model"]) for turn in back["history"]] == [
        (3, "grown/1"),
        (2, "grown/2"),
        (1, "grown/1"),
    ]
    assert error(live.mine.post("/v1/aliases/grown@production/rollback"), 409)["code"] == "nothing_before"
    assert promote(live, "grown/1").json()["turn"]["number"] == 3


def test_a_repeated_promotion_or_rollback_changes_nothing_more(live: Live, base: Artifact):
    for number in (1, 2, 3):
        tuned(live, "steady", base)
        assert promote(live, f"steady/{number}", force=True).status_code == 201
    url = "/v1/aliases/steady@production/rollback"
    first, again = (live.mine.post(url, headers={"Idempotency-Key": "back once"}) for _ in range(2))
    assert (first.status_code, first.json()["model"]) == (200, "steady/2")
    assert again.json() == first.json()
    counted = live.mine.post(url, headers={"x-stainless-retry-count": "0"}).json()
    assert (counted["model"], counted["turn"]["number"]) == ("steady/1", 5)
    retried = live.mine.post(url, headers={"x-stainless-retry-count": "1"})
    assert error(retried, 409)["code"] == "nothing_before"  # not the answer to the equal rollback before it

    def keyed(model: str) -> httpx.Response:
        body = {"model": model, "alias": "production", "force": True}
        return live.mine.post("/v1/aliases", json=body, headers={"Idempotency-Key": "forth once"})

    assert keyed("steady/3").json()["turn"]["number"] == 6
    assert live.mine.post(url).json()["model"] == "steady/1"
    assert (keyed("steady/3").status_code, keyed("steady/3").json()["turn"]["number"]) == (201, 6)
    assert error(keyed("steady/2"), 400)["code"] == "idempotency_key_reused"
    assert live.mine.get("/v1/aliases/steady@production").json()["turn"]["number"] == 7


def test_a_rollback_never_restores_a_version_that_was_rolled_back(live: Live, base: Artifact):
    for number in (1, 2, 3):
        tuned(live, "shaky", base)
        assert promote(live, f"shaky/{number}", force=True).status_code == 201
        if number == 2:
            assert live.mine.post("/v1/aliases/shaky@production/rollback").json()["model"] == "shaky/1"
    back = live.mine.post("/v1/aliases/shaky@production/rollback").json()
    assert (back["model"], back["turn"]["back_to"]) == ("shaky/1", 1)
    assert error(live.mine.post("/v1/aliases/shaky@production/rollback"), 409)["code"] == "nothing_before"


def test_the_base_of_an_adapter_that_an_alias_means_is_not_deleted(live: Live):
    below = published(live, "needed", FILES)
    for _ in range(2):
        tuned(live, "needy", below)
    assert promote(live, "needy/1", force=True).status_code == 201
    message = error(live.mine.delete("/v1/models/needed/1"), 409)["message"]
    assert message.startswith("needy@production means needed/1 or an adapter on it")
    assert promote(live, "needed/1", force=True).status_code == 201


def test_an_adapter_whose_base_was_deleted_is_neither_promoted_nor_rolled_back_to(live: Live, base: Artifact):
    below = published(live, "passing", FILES)
    tuned(live, "orphan", below)
    tuned(live, "orphan", base)
    assert promote(live, "orphan/1", force=True).status_code == 201
    assert promote(live, "orphan/2", force=True).status_code == 201
    assert live.mine.delete("/v1/models/passing/1").status_code == 200
    for refused in (
        live.mine.post("/v1/aliases/orphan@production/rollback"),
        promote(live, "orphan/1", force=True),
    ):
        assert "orphan/1 is an adapter on passing/1, which was deleted" in error(refused, 409)["message"]


def test_a_model_whose_base_was_deleted_takes_a_force(live: Live):
    below = published(live, "origin", FILES)
    published(live, "heir", FILES, base_id=below.id)
    assert live.mine.delete("/v1/models/origin/1").status_code == 200
    refusal = error(promote(live, "heir/1"), 409)
    assert (refusal["code"], "`force`" in refusal["message"]) == ("base_deleted", True)
    assert promote(live, "heir/1", force=True).status_code == 201


@pytest.mark.parametrize(
    ("figure", "changes", "reason"),
    [
        ("eval_loss", {"difference/eval_loss_low": None, "difference/eval_loss_high": None}, "at least two rows"),
        ("eval_loss", {"eval_rows": 1.0}, "at least two rows"),
        ("eval_exact_match", {"eval_exact_match": 0.0}, "shows nothing"),
    ],
    ids=["no interval", "one row", "all wrong"],
)
def test_an_evaluation_that_shows_nothing_is_refused(live: Live, base: Artifact, figure, changes, reason):
    made = tuned(live, "vague", base)
    evaluated(live, f"vague/{made.version}", "ground/1", 0.0, 0.0, figure, **changes)
    refusal = error(promote(live, f"vague/{made.version}"), 409)
    assert (refusal["code"], reason in refusal["message"]) == ("evidence_missing", True)


def test_a_force_takes_an_admins_key_and_is_noted(live: Live, base: Artifact):
    tuned(live, "urgent", base)
    wanted = {"model": "urgent/1", "alias": "production", "force": True}
    with live.database.write() as session:
        _, token = keys.create(session, live.project_id, "writer", SECRET, scope=Scope.WRITE)
    with client(live.url, token) as writer:
        assert error(writer.post("/v1/aliases", json=wanted), 403)["param"] == "admin"
    turned = live.mine.post("/v1/aliases", json=wanted).json()
    assert turned["turn"]["forced"] is True
    (noted,) = live.mine.get("/v1/audit", params={"object_id": turned["artifact_id"]}).json()["data"]
    assert noted["action"] == "alias.force"


def test_a_model_without_a_base_is_promoted_where_there_is_nothing_to_hold_it_against(live: Live):
    published(live, "first", FILES)
    assert promote(live, "first", "staging").json()["id"] == "first@staging"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nobody/1", "alias": "production"}, 404),
        ({"model": "ground/1", "alias": "Not An Alias"}, 422),
        ({"model": "ground/1"}, 422),
        ({"model": "ground/1", "alias": "production", "force": "yes"}, 422),
    ],
)
def test_what_cannot_be_promoted_is_refused(live: Live, base: Artifact, body, status):
    error(live.mine.post("/v1/aliases", json=body), status)


def test_an_alias_that_is_not_there_is_no_model(live: Live):
    for reference in ("bot@nowhere", "@", "bot@", "@production", "bot@production/1"):
        assert live.mine.get(f"/v1/adapters/{reference}").status_code == 404
    assert live.mine.post("/v1/aliases/bot@nowhere/rollback").status_code == 404


def test_aliases_are_listed_in_pages_and_a_name_has_no_more_than_it_may(
    live: Live, base: Artifact, monkeypatch: pytest.MonkeyPatch
):
    name = "paged"
    made = tuned(live, name, base)
    monkeypatch.setattr("api.aliases.service._MOST_ALIASES", 7)
    for number in range(7):
        assert promote(live, f"{name}/{made.version}", f"a{number}", force=True).status_code == 201
    assert error(promote(live, f"{name}/{made.version}", "a7", force=True), 409)["code"] == "too_many_aliases"
    whole = live.mine.get("/v1/aliases").json()
    listed: list[str] = []
    has_more = True
    while has_more:
        after = {"after": listed[-1]} if listed else {}
        page = live.mine.get("/v1/aliases", params={"limit": 3} | after).json()
        listed += [alias["id"] for alias in page["data"]]
        has_more = page["has_more"]
    assert (listed, whole["has_more"]) == ([alias["id"] for alias in whole["data"]], False)
    assert len(set(listed)) == len(listed) >= 7
    told = error(live.mine.delete(f"/v1/adapters/{name}/{made.version}"), 409)["message"]
    assert told.startswith("paged@a0, paged@a1, paged@a2, paged@a3, paged@a4 and 2 more mean paged/1")
