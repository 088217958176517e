"""Jobs: asking for them, listing them, stopping them."""

import pytest

from db import feed, jobs, leases, orders, outbox
from db.models import Job
from db.state import JobState
from tests.integration.db.work import Work


def ids(page: tuple[list[Job], bool]) -> list[str]:
    return [job.id for job in page[0]]


def test_a_new_job_is_queued_with_its_message_and_its_first_event(work: Work):
    job_id = work.submit()
    assert (work.job(job_id).state, work.job(job_id).last_seq) == ("queued", 1)
    assert [row.job_id for row in work.read(outbox.pending, 10)] == [job_id]
    assert [(record.seq, record.type) for record in work.records(job_id)] == [(1, "created")]


def test_a_job_whose_transaction_fails_leaves_nothing(work: Work):
    def interrupted():
        with work.database.write() as s:
            jobs.create(s, [jobs.NewJob(work.project_id, {}, "sft", 0)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert work.read(jobs.page, work.project_id, after=None, limit=10) == ([], False)
    assert work.read(outbox.pending, 10) == []


def test_a_spec_comes_back_as_it_went_in_keys_in_order(work: Work):
    spec = {"z": 1, "a": [1.5, None, True, "ü"], "nested": {"b": {}, "a": []}}
    job_id = work.submit(spec=spec)
    assert list(work.job(job_id).spec.items()) == list(spec.items())


def test_a_nul_in_a_spec_keeps_nothing_from_being_read_out_of_it(work: Work):
    """PostgreSQL reads no key out of JSON that holds an escaped one: not even whether this is the job."""
    job_id = work.submit(spec={"metadata": {"team": "a"}, "prompts": ["x\0", "\\u0000", "\\\\\0", "\\\\u0000"]})
    assert ids(work.read(jobs.page, work.project_id, after=None, limit=10, metadata={"team": "a"})) == [job_id]
    assert work.job(job_id).spec["prompts"] == ["x\ufffd", "\\u0000", "\\\\\ufffd", "\\\\u0000"]


def test_another_project_does_not_see_the_job(work: Work, theirs: Work):
    job_id = work.submit()
    assert work.read(jobs.get, theirs.project_id, job_id) is None
    assert work.write(orders.cancel, theirs.project_id, job_id) is None
    assert ids(work.read(jobs.page, theirs.project_id, after=None, limit=10)) == []


@pytest.mark.parametrize("job_id", ["", "\0", "job-\0", "\ud800", "job-' OR 1=1 --", "x" * 100_000])
def test_an_id_that_nothing_can_have_finds_nothing(work: Work, job_id: str):
    assert work.read(jobs.get, work.project_id, job_id) is None
    assert work.read(jobs.find, job_id) is None
    assert work.write(orders.cancel, work.project_id, job_id) is None
    assert work.read(feed.heads, [job_id]) == {}


def test_pages_show_every_job_once_newest_first(work: Work):
    made = [work.submit() for _ in range(7)]
    shown, after, more = [], None, True
    while more:
        rows, more = work.read(jobs.page, work.project_id, after=after, limit=3)
        after = rows[-1].id
        shown += [row.id for row in rows]
    assert shown == made[::-1]


def test_a_page_that_holds_the_last_row_says_so(work: Work):
    for _ in range(3):
        work.submit()
    assert work.read(jobs.page, work.project_id, after=None, limit=3)[1] is False
    assert work.read(jobs.page, work.project_id, after=None, limit=2)[1] is True


def test_a_page_can_be_narrowed_by_kind_and_state(work: Work):
    sft, evaluation = work.submit(), work.submit(kind="eval")
    work.claim(sft)
    assert ids(work.read(jobs.page, work.project_id, after=None, limit=10, kinds=["eval"])) == [evaluation]
    assert ids(work.read(jobs.page, work.project_id, after=None, limit=10, state="preparing")) == [sft]


def test_a_queued_job_is_cancelled_at_once(work: Work):
    job_id = work.submit()
    job = work.write(orders.cancel, work.project_id, job_id)
    assert (job.state, job.finished_at is not None) == ("cancelled", True)
    assert [record.type for record in work.records(job_id)] == ["created", "state"]
    assert work.write(leases.claim, job_id, worker="w", lease_s=60) is None


def test_a_running_job_is_told_to_stop_at_its_next_renewal(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    assert work.write(orders.cancel, work.project_id, job_id).state == "running"
    assert work.write(leases.renew, job_id, fence, lease_s=60) == leases.Renewal(cancel_requested=True)
    assert work.records(job_id)[-1].type == "cancel_requested"


def test_asking_twice_to_stop_is_told_once(work: Work):
    job_id = work.submit()
    work.run(job_id)
    for _ in range(2):
        work.write(orders.cancel, work.project_id, job_id)
    assert [record.type for record in work.records(job_id)].count("cancel_requested") == 1


def test_a_job_that_ended_stays_as_it_is(work: Work):
    job_id = work.submit()
    work.write(leases.settle, job_id, work.run(job_id), state=JobState.SUCCEEDED)
    assert work.write(orders.cancel, work.project_id, job_id).state == "succeeded"
    assert work.job(job_id).cancel_requested_at is None


def test_every_change_of_state_is_an_event_with_its_attempt(work: Work):
    job_id = work.submit()
    work.write(leases.settle, job_id, work.run(job_id), state=JobState.SUCCEEDED)
    told = [(record.attempt, record.data["state"]) for record in work.records(job_id) if record.data]
    assert told == [(None, "queued"), (1, "preparing"), (1, "running"), (1, "succeeded")]


def test_a_change_that_the_table_forbids_does_not_happen(work: Work):
    job_id = work.submit()
    assert work.write(jobs.transition, job_id, JobState.RUNNING, message="skip a step") is None
    assert work.job(job_id).state == "queued"


def test_the_heads_of_many_jobs_come_together(work: Work):
    first, second = work.submit(), work.submit()
    work.run(second)
    assert work.read(feed.heads, [first, second, "job-unknown"]) == {first: (1, "queued"), second: (3, "running")}


def test_no_jobs_have_no_heads(work: Work):
    assert work.read(feed.heads, []) == {}
