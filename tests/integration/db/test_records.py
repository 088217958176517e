"""Records: events and metrics under one numbering."""

import math
import threading
import time

import pytest

from db import leases, orders, records
from tests.integration.db.work import Work, event, metric


def append(work: Work, job_id: str, fence: int, *, events=(), metrics=(), batch=None) -> leases.Renewal | None:
    return work.write(records.append, job_id, fence, events=events, metrics=metrics, lease_s=60, batch=batch)


@pytest.fixture
def running(work: Work) -> tuple[str, int]:
    job_id = work.submit()
    return job_id, work.run(job_id)


def test_events_and_metrics_share_one_numbering_in_the_order_of_time(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, events=[event("b", created_at=2.0)], metrics=[metric(1, created_at=1.0)])
    append(work, job_id, fence, events=[event("d", created_at=4.0)], metrics=[metric(2, created_at=3.0)])
    told = work.records(job_id)[3:]
    assert [(record.seq, record.step or record.message) for record in told] == [(4, 1), (5, "b"), (6, 2), (7, "d")]
    assert work.job(job_id).last_seq == 7


def test_an_append_renews_the_lease_and_hands_on_the_wish_to_stop(work: Work, running: tuple[str, int]):
    job_id, fence = running
    assert append(work, job_id, fence) == leases.Renewal()
    work.write(orders.cancel, work.project_id, job_id)
    assert append(work, job_id, fence, events=[event()]) == leases.Renewal(cancel_requested=True)
    assert work.job(job_id).lease_expires_at > time.time() + 30


def test_an_append_tells_where_the_job_stands(work: Work, running: tuple[str, int]):
    job_id, fence = running
    started = event(type="started", data={"total_steps": 90, "start_step": 0})
    append(work, job_id, fence, events=[started])
    append(work, job_id, fence, metrics=[metric(1), metric(2, 0.5), metric(2, 9.0, split="eval")])
    job = work.job(job_id)
    assert (job.step, job.total_steps, job.progress) == (2, 90, {"loss": 0.5})


def test_a_step_told_again_replaces_its_figures_under_a_new_number(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, metrics=[metric(1, 3.0), metric(2, 2.0)])
    append(work, job_id, fence, metrics=[metric(2, 1.0)])
    rows, more = work.read(records.metrics_page, job_id, limit=10)
    assert [(row.step, row.seq, row.values) for row in rows] == [(1, 4, {"loss": 3.0}), (2, 6, {"loss": 1.0})]
    assert not more


def test_a_step_told_twice_at_once_keeps_the_later_figures(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, metrics=[metric(1, 3.0), metric(1, 2.0)])
    rows, _ = work.read(records.metrics_page, job_id, limit=10)
    assert [row.values for row in rows] == [{"loss": 2.0}]


def test_figures_that_are_not_finite_are_kept_as_null(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, metrics=[metric(1, math.nan), metric(2, math.inf), metric(3, None)])
    rows, _ = work.read(records.metrics_page, job_id, limit=10)
    assert [row.values for row in rows] == [{"loss": None}] * 3


def test_a_batch_that_is_in_already_renews_the_lease_and_writes_nothing(work: Work, running: tuple[str, int]):
    job_id, fence = running
    for batch in (1, 1, 2, 2):
        told = {"events": [event(str(batch))], "metrics": [metric(batch)]}
        assert append(work, job_id, fence, **told, batch=batch) == leases.Renewal()
    told = work.records(job_id)[3:]
    assert [record.message or record.step for record in told] == ["1", 1, "2", 2]
    assert append(work, job_id, fence - 1, events=[event()], batch=2) is None


def test_the_batches_of_another_attempt_are_counted_anew(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, events=[event("first")], batch=5)
    work.write(leases.release, job_id, fence, outcome="stopped", message="")
    append(work, job_id, work.run(job_id), events=[event("second")], batch=1)
    assert work.records(job_id)[-1].message == "second"


def test_any_text_of_an_engine_can_be_told(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, events=[event("a\0b\ud800", data={"text": "a\0b", "escaped": "\\u0000"})])
    told = work.records(job_id)[-1]
    assert (told.message, told.data) == ("a\ufffdb\ufffd", {"text": "a\ufffdb", "escaped": "\\u0000"})


def test_numbers_rise_without_gap_or_double_under_concurrency(work: Work, running: tuple[str, int]):
    job_id, fence = running

    def write(first_step: int) -> None:
        for step in range(first_step, first_step + 5):
            append(work, job_id, fence, metrics=[metric(step)])
            work.write(records.note, job_id, "log", "info", "beside it")

    threads = [threading.Thread(target=write, args=(number * 100,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record.seq for record in work.records(job_id)] == list(range(1, 64))


def test_a_reader_that_follows_while_others_write_misses_nothing(work: Work, running: tuple[str, int]):
    job_id, fence = running
    seen: list[int] = []
    done = threading.Event()

    def write() -> None:
        try:
            for step in range(100):
                append(work, job_id, fence, events=[event()], metrics=[metric(step)])
        finally:
            done.set()

    def follow() -> None:
        ended = False
        while not ended:
            ended = done.is_set()  # asked before the look: what is written until here is there to be seen
            with work.database.read() as s:
                news = records.since(s, job_id, seen[-1] if seen else 0, 7)
            seen.extend(record.seq for record in news)
            ended = ended and not news

    threads = [threading.Thread(target=write), threading.Thread(target=follow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == list(range(1, 204))


def test_records_can_be_had_from_any_number_on(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, events=[event(str(number)) for number in range(10)])
    assert [record.seq for record in work.read(records.since, job_id, 5, 3)] == [6, 7, 8]
    assert work.read(records.since, job_id, 10**30, 3) == []


def test_events_are_paged_from_either_end(work: Work, running: tuple[str, int]):
    job_id, _ = running

    def seqs(**asked) -> tuple[list[int], bool]:
        rows, more = work.read(records.events_page, job_id, **asked)
        return [row.seq for row in rows], more

    assert seqs(limit=2) == ([1, 2], True)
    assert seqs(limit=2, after_seq=2) == ([3], False)
    assert seqs(limit=2, order="desc") == ([3, 2], True)
    assert seqs(limit=2, order="desc", after_seq=2) == ([1], False)
    assert seqs(limit=2, after_seq=10**30) == ([], False)


def test_events_can_be_narrowed_by_level(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, events=[event("fine"), event("odd", level="warn")])
    rows, _ = work.read(records.events_page, job_id, limit=10, level="warn")
    assert [row.message for row in rows] == ["odd"]


def test_events_can_be_narrowed_by_type(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, events=[event("first"), event("second") | {"type": "sample"}, event("third")])
    rows, more = work.read(records.events_page, job_id, limit=1, order="desc", type="sample")
    assert ([row.message for row in rows], more) == (["second"], False)


def test_metrics_are_paged_by_step_and_split(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, metrics=[metric(step) for step in range(5)] + [metric(4, split="eval")])
    rows, more = work.read(records.metrics_page, job_id, split="train", after_step=1, limit=2)
    assert ([row.step for row in rows], more) == ([2, 3], True)
    rows, more = work.read(records.metrics_page, job_id, split="eval", limit=2)
    assert ([row.step for row in rows], more) == ([4], False)


def test_pages_of_metrics_are_the_whole_run_in_the_order_of_its_steps(work: Work, running: tuple[str, int]):
    job_id, fence = running
    figures = [metric(step) for step in range(1, 24)] + [metric(step, split="eval") for step in (1, 5, 6, 30, 31, 32)]
    append(work, job_id, fence, metrics=figures)
    expected = sorted(((each["step"], each["split"]) for each in figures), key=lambda row: (row[0], row[1] == "eval"))
    for limit in (1, 2, 3, 7, 50):
        shown, after, more = [], None, True
        while more:
            rows, more = work.read(records.metrics_page, job_id, after_step=after, limit=limit)
            shown += [(row.step, row.split) for row in rows]
            after = rows[-1].step
        assert shown == expected


def test_a_page_of_metrics_never_parts_the_splits_of_a_step(work: Work, running: tuple[str, int]):
    job_id, fence = running
    append(work, job_id, fence, metrics=[metric(step, split=split) for step in range(3) for split in ("train", "eval")])
    shown, after, more = [], None, True
    while more:
        rows, more = work.read(records.metrics_page, job_id, after_step=after, limit=1)
        shown += [(row.step, row.split) for row in rows]
        after = rows[-1].step
    assert shown == [(step, split) for step in range(3) for split in ("train", "eval")]
