"""Which webhooks are tried next, where many wait."""

from db import webhooks
from tests.integration.db.work import Work

EVENT = "fine_tuning.job.succeeded"
ROOM = webhooks.Room(of_a_project=8, of_an_endpoint=8)


def announce(work: Work, count: int = 1) -> None:
    """That many deliveries, all due now, to an endpoint of the project."""
    endpoint = work.write(webhooks.add, work.project_id, name="hook", url="http://127.0.0.1:1/", event_types=[EVENT])
    for number in range(count):
        work.write(webhooks.announce, endpoint.project_id, EVENT, f"job-{number}")


def claim(work: Work, limit: int, under_way: dict[str, int] | None = None) -> list[str]:
    """The projects whose deliveries are tried next."""
    return [due.project_id for due in work.write(webhooks.claim, ROOM, under_way or {}, limit=limit, hold_s=60.0)]


def test_the_project_with_the_fewest_tries_under_way_goes_first(work: Work, theirs: Work) -> None:
    announce(work)
    announce(theirs)
    assert claim(work, 1, {work.project_id: 7}) == [theirs.project_id]


def test_projects_take_turns_however_many_deliveries_one_of_them_has(work: Work, theirs: Work) -> None:
    announce(work, 6)
    announce(theirs)
    assert claim(work, 2) == [work.project_id, theirs.project_id]


def test_no_more_are_tried_than_there_is_room_for(work: Work) -> None:
    announce(work, 10)
    assert len(claim(work, 32)) == 8
    assert not work.read(webhooks.any_due, ROOM, {work.project_id: 8})
    assert work.read(webhooks.any_due, ROOM, {})
