"""Which webhooks are tried next, where many wait."""

from typing import Any

from sqlalchemy import update

from db import webhooks
from db.models import WebhookDelivery, WebhookEndpoint
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
    chosen = work.read(webhooks.ready, ROOM, under_way or {}, limit=limit)
    return [due.project_id for due in work.write(webhooks.take, chosen, hold_s=60.0)]


def ready(work: Work, under_way: dict[str, int] | None = None) -> list[Any]:
    return work.read(webhooks.ready, ROOM, under_way or {}, limit=32)


def test_the_project_with_the_fewest_tries_under_way_goes_first(work: Work, theirs: Work) -> None:
    announce(work)
    announce(theirs)
    assert claim(work, 1, {work.project_id: 7}) == [theirs.project_id]


def test_projects_take_turns_however_many_deliveries_one_of_them_has(work: Work, theirs: Work) -> None:
    announce(work, 6)
    announce(theirs)
    assert claim(work, 2) == [work.project_id, theirs.project_id]


def test_no_more_are_tried_than_there_is_room_for(work: Work) -> None:
    announce(work, 5)
    announce(work, 5)  # each of these for both endpoints
    assert len(claim(work, 32)) == 8
    assert ready(work, {work.project_id: 8}) == []
    assert len(ready(work)) == 7


def test_an_endpoint_that_is_full_hides_no_delivery_to_another(work: Work) -> None:
    announce(work, 10)
    announce(work, 1)
    room = webhooks.Room(of_a_project=8, of_an_endpoint=2)
    chosen = work.read(webhooks.ready, room, {}, limit=32)
    first, second, other = (each.endpoint.id for each in chosen)
    assert first == second != other
    assert [each.endpoint.id for each in work.read(webhooks.ready, room, {first: 1}, limit=32)] == [first, other]


def test_what_another_courier_has_taken_meanwhile_is_left_to_it(work: Work) -> None:
    announce(work, 3)
    chosen = ready(work)
    taken = work.write(webhooks.take, chosen[:2], hold_s=60.0)
    assert [due.attempt for due in taken] == [1, 1]
    assert [due.id for due in work.write(webhooks.take, chosen, hold_s=60.0)] == [chosen[2].delivery.id]


def test_an_event_that_was_announced_while_its_endpoint_was_deleted_fails_and_is_not_sent(work: Work) -> None:
    announce(work)
    with work.database.write() as s:  # the deletion did not see the delivery, which was committed after it
        s.execute(update(WebhookEndpoint).values(deleted_at=1.0))
    assert claim(work, 32) == []
    (delivery,) = work.read(lambda s: s.query(WebhookDelivery).all())
    assert (delivery.state, delivery.error, delivery.attempts) == ("failed", "the endpoint was deleted", 0)
