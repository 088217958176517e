"""Gangs: jobs that need several workers get all of them in one transaction, or none.

A worker whose turn it is to take such a job offers itself for a few seconds, and may take another job meanwhile. The
worker that completes their number claims the job and enlists the others: it holds the job and leads, and each of them
has a lease of its own on its part in the attempt. No worker holds part of a job that has not started, so no two jobs
can wait for each other's workers.
"""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, SQLColumnExpression, func, insert, select, update
from sqlalchemy.orm import Session

from db import clock, placement
from db.fence import Renewal
from db.models import GangMember, Job, Worker
from db.state import HELD

OFFER_S = 5.0
"""The time for which an offer counts; a worker renews it earlier."""
_UNSYNCHRONIZED = {"synchronize_session": False}


class Meeting(NamedTuple):
    """The address at which the processes of the other workers meet those of the first."""

    address: str
    port: int


class Gang(NamedTuple):
    """A worker's place among `num_nodes`; the first one, whose number is 0, holds the job."""

    node_rank: int
    num_nodes: int
    meeting: Meeting


class Enlisted(NamedTuple):
    """A worker's part in an attempt at a job that another worker holds."""

    job: Job
    fence: int
    gang: Gang


class Fault(NamedTuple):
    """A worker of a gang whose engine failed, with the fields of its workers.failures.Failure; None if it is lost."""

    worker: str
    failure: dict[str, Any] | None


def wanted(s: Session, job_id: str, next_of: Callable[[str], str | None]) -> int:
    """Return how many workers are to carry out a job.

    That is the number the job asks for; where it accepts fewer, as many of them as are free. A worker that offers
    itself to another job is not free as long as that is the job that it would take next, by `next_of`.
    """
    query = select(Job.nodes, Job.requires, Job.spec["resources"]).where(Job.id == job_id)
    least, requires, resources = s.execute(query).one()
    most = (resources or {}).get("num_nodes", 1)
    if least == most:
        return most
    at_work = busy(s).keys() | set(s.scalars(select(Job.worker).where(Job.lease_expires_at.is_not(None))))
    promised = {name for name, other in offering(s).items() if other != job_id and next_of(name) == other}
    able = {each.name for each in placement.present(s) if placement.answers(each, requires)}
    return max(least, min(most, len(able - at_work - promised)))


def offer(s: Session, job_id: str, worker: str) -> list[str]:
    """Have a worker wait for the others of a job, and return the other workers that wait for it already."""
    now = clock.moment(s)
    offered = update(Worker).where(Worker.name == worker).values(offers_to=job_id, offers_until=now + OFFER_S)
    s.execute(offered, execution_options=_UNSYNCHRONIZED)
    others = select(Worker.name).where(Worker.offers_to == job_id, Worker.offers_until > now, Worker.name != worker)
    return list(s.scalars(others.order_by(Worker.name)))


def may_meet(s: Session, meeting: Meeting, workers: list[str]) -> bool:
    """Return whether the workers can meet there: a loopback address only serves the workers of one host."""
    if not ip_address(meeting.address).is_loopback:
        return True
    hosts = select(func.count(Worker.host.distinct())).where(Worker.name.in_(workers))
    return s.execute(hosts).scalar_one() == 1


def withdraw(s: Session, worker: str) -> None:
    """Take back the worker's offer."""
    s.execute(update(Worker).where(Worker.name == worker).values(offers_to=None, offers_until=None))


def enlist(s: Session, job_id: str, fence: int, workers: list[str], meeting: Meeting, *, lease_s: float) -> Gang:
    """Give these workers a part in an attempt that was just claimed, and return the place of the claimer."""
    gang = Gang(0, len(workers) + 1, meeting)
    row = {
        "job_id": job_id,
        "fence": fence,
        "num_nodes": gang.num_nodes,
        "lease_expires_at": clock.moment(s) + lease_s,
    }
    row |= {"master_addr": meeting.address, "master_port": meeting.port}
    for number, worker in enumerate(workers, 1):
        s.execute(insert(GangMember).values(row | {"node_rank": number, "worker": worker}))
        withdraw(s, worker)
    return gang


def enlisted(s: Session, worker: str) -> Enlisted | None:
    """Return the attempt that a worker has a part in, as long as both leases hold."""
    query = (
        select(Job, GangMember)
        .join(GangMember, GangMember.job_id == Job.id)
        .where(GangMember.worker == worker, GangMember.lease_expires_at > clock.moment(s), *_goes_on(s))
        .where(GangMember.ended_at.is_(None))
    )
    found = s.execute(query).first()
    if found is None:
        return None
    job, member = found
    meeting = Meeting(member.master_addr, member.master_port)
    return Enlisted(job, member.fence, Gang(member.node_rank, member.num_nodes, meeting))


def renew(s: Session, job_id: str, fence: int, node_rank: int, *, lease_s: float) -> Renewal | None:
    """Renew the lease on the part for `lease_s`; None when it ran out, or the attempt is over."""
    now = clock.moment(s)
    attempt = select(Job.id).where(GangMember.job_id == Job.id, *_goes_on(s)).exists()
    kept = _part(job_id, fence, node_rank).where(GangMember.lease_expires_at > now, attempt)
    row = s.scalars(
        kept.values(lease_expires_at=now + lease_s).returning(GangMember.node_rank), execution_options=_UNSYNCHRONIZED
    ).one_or_none()
    return None if row is None else Renewal()


def end(s: Session, job_id: str, fence: int, node_rank: int, failure: dict[str, Any] | None) -> None:
    """Record that the worker's engine has ended, and its failure, if it failed."""
    ended = _part(job_id, fence, node_rank).values(ended_at=clock.moment(s), failure=failure)
    s.execute(ended, execution_options=_UNSYNCHRONIZED)


def end_all(s: Session, job_id: str, fence: int) -> None:
    """End the parts of an attempt that has ended: workers that were lost did not report theirs."""
    open_parts = GangMember.job_id == job_id, GangMember.fence == fence, GangMember.ended_at.is_(None)
    s.execute(update(GangMember).where(*open_parts).values(ended_at=clock.moment(s)), execution_options=_UNSYNCHRONIZED)


def fault(s: Session, job_id: str, fence: int, *, vague: str = "") -> Fault | None:
    """Return one of an attempt's other workers that is lost or whose engine failed.

    A worker with a failure of another code than `vague` comes first, then one that is lost, then one with that code.
    """
    query = select(GangMember).where(GangMember.job_id == job_id, GangMember.fence == fence)
    members = list(s.scalars(query.order_by(GangMember.node_rank)))
    now = clock.now(s)
    failed = [Fault(member.worker, member.failure) for member in members if member.failure is not None]
    lost = [member for member in members if member.ended_at is None and member.lease_expires_at <= now]
    known = [each for each in failed if each.failure and each.failure["code"] != vague]
    return next(iter([*known, *(Fault(member.worker, None) for member in lost), *failed]), None)


def expire_worker(s: Session, worker: str) -> None:
    """End the lease on the part of a worker that has just started: it is from before the restart."""
    now = clock.moment(s)
    parts = update(GangMember).where(GangMember.worker == worker, GangMember.ended_at.is_(None))
    s.execute(
        parts.where(GangMember.lease_expires_at > now).values(lease_expires_at=now), execution_options=_UNSYNCHRONIZED
    )
    withdraw(s, worker)


def busy(s: Session) -> dict[str, str]:
    """Return the workers that have a part in a job that another worker holds, each with the job's id."""
    query = select(GangMember.worker, GangMember.job_id).join(Job, Job.id == GangMember.job_id)
    query = query.where(Job.lease_expires_at.is_not(None), GangMember.fence == Job.fence, GangMember.ended_at.is_(None))
    return {worker: job_id for worker, job_id in s.execute(query)}  # noqa: C416 - rows are no pairs to dict's types


def offering(s: Session) -> dict[str, str]:
    """Return the workers that offer themselves, each with the id of the job."""
    query = select(Worker.name, Worker.offers_to).where(Worker.offers_until > clock.moment(s))
    return {worker: job_id for worker, job_id in s.execute(query) if job_id}


def size(job_id: SQLColumnExpression[str], fence: SQLColumnExpression[int]) -> ColumnElement[int]:
    """Return the number of workers of an attempt, as an SQL expression."""
    others = select(func.count()).where(GangMember.job_id == job_id, GangMember.fence == fence)
    return 1 + others.scalar_subquery()


def _part(job_id: str, fence: int, node_rank: int) -> Any:
    return update(GangMember).where(
        GangMember.job_id == job_id,
        GangMember.fence == fence,
        GangMember.node_rank == node_rank,
        GangMember.ended_at.is_(None),
    )


def _goes_on(s: Session) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for a member's attempt to go on: its fence holds the job, with a valid lease."""
    return Job.fence == GangMember.fence, Job.state.in_(HELD), Job.lease_expires_at > clock.moment(s)
