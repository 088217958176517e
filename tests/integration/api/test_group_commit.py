"""Writes that share a transaction."""

import asyncio
import threading
from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError

from api.group_commit import GroupWriter
from db import projects
from db.errors import Unavailable
from db.session import Session
from tests.integration.api.live import Live, submitted


class Naming:
    """Makes projects of the names that it is given, and keeps the sizes of the groups."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, session: Session, names: Sequence[str]) -> list[str | Exception]:
        self.sizes.append(len(names))
        if "away" in names:
            raise Unavailable("the database is away")
        return [ValueError(name) if name.startswith("odd") else projects.create(session, name).id for name in names]


def put_all(live: Live, names: Sequence[str]) -> tuple[list[str | BaseException], list[int]]:
    naming = Naming()

    async def put() -> list[str | BaseException]:
        writer = GroupWriter(live.database, naming)
        return await asyncio.gather(*(writer.put(name) for name in names), return_exceptions=True)

    return asyncio.run(put()), naming.sizes


def stored(live: Live, name: str) -> bool:
    with live.database.read() as session:
        return projects.by_name(session, name) is not None


def test_what_waits_at_the_same_time_shares_transactions(live: Live):
    results, sizes = put_all(live, names := [f"shared-{number}" for number in range(100)])
    assert len(set(results)) == 100
    assert all(stored(live, name) for name in names)
    assert len(sizes) == (2 if live.database.local else 100)


def test_a_refusal_is_raised_to_the_one_whose_it_is(live: Live):
    (first, odd, last), _ = put_all(live, ["refusal-1", "odd", "refusal-2"])
    assert isinstance(odd, ValueError)
    assert isinstance(first, str)
    assert isinstance(last, str)
    assert stored(live, "refusal-1")
    assert stored(live, "refusal-2")


def test_what_the_database_refuses_does_not_fail_the_others(live: Live):
    (first, again, last), _ = put_all(live, ["twice", "twice", "refused-beside"])
    assert sorted(isinstance(result, IntegrityError) for result in (first, again)) == [False, True]
    assert isinstance(last, str)
    assert stored(live, "refused-beside")


def test_a_database_that_is_away_is_told_to_everyone(live: Live):
    results, _ = put_all(live, ["away", "away"])
    assert all(isinstance(result, Unavailable) for result in results)


def test_one_who_leaves_takes_nobody_along(live: Live):
    async def put() -> str:
        writer = GroupWriter(live.database, Naming())
        leaving = asyncio.create_task(writer.put("left"))
        staying = asyncio.create_task(writer.put("stayed"))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    assert asyncio.run(put())
    assert stored(live, "stayed")


def test_jobs_submitted_at_once_stand_one_behind_the_other(live: Live):
    job_ids: list[str] = []
    threads = [threading.Thread(target=lambda: job_ids.append(submitted(live))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = [live.mine.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in sorted(job_ids)]
    assert places == list(range(places[0], places[0] + 12))
