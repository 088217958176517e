"""Figures for monitoring."""

import pytest

from db import leases, service_stats
from db.models import Job
from db.state import JobState
from tests.integration.db.work import Work


def test_waits_are_those_for_first_attempts(work: Work):
    job_id = work.submit()
    work.submit()
    assert work.read(service_stats.waits) == (0, 0.0)
    with work.database.write() as s:
        s.get_one(Job, job_id).created_at -= 3600
    fence = work.run(job_id)
    first = work.read(service_stats.waits)
    assert first == (1, pytest.approx(3600, abs=60))
    work.write(leases.release, job_id, fence, outcome="stopped", message="")
    work.run(job_id)
    assert work.read(service_stats.waits) == first


def test_failures_are_counted_by_class_and_lost_workers_apart(work: Work):
    for failure, exit_code in (("spec_error", 3), ("worker_lost", None), ("worker_lost", 9)):
        job_id = work.submit()
        ended = {"failure": failure, "message": "", "exit_code": exit_code}
        work.write(leases.settle, job_id, work.run(job_id), state=JobState.FAILED, **ended)
    assert work.read(service_stats.failures) == {"spec_error": 1, "worker_lost": 2}
    assert work.read(service_stats.lease_expiries) == 1
