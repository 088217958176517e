"""What the reaper removes beside its sweep."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from db import evals, files, outbox
from db.errors import DatabaseFull, Unavailable
from db.models import EvalRun, File, Outbox
from tests.integration.workers.workplace import Workplace, wait_until
from workers import housekeeping
from workers.housekeeping import Housekeeping


@contextmanager
def keeping(workplace: Workplace) -> Iterator[None]:
    thread = Housekeeping(workplace.database, workplace.blobs, workplace.settings)
    thread.start()
    try:
        yield
    finally:
        thread.stop(20)
    assert not thread.is_alive()


def expired_file(workplace: Workplace) -> str:
    file_id = workplace.upload("over")
    with workplace.database.write() as s:
        s.get_one(File, file_id).expires_at = time.time() - 1
    return file_id


def stored(workplace: Workplace, file_id: str) -> bool:
    with workplace.database.read() as s:
        return files.get(s, workplace.project_id, file_id) is not None


@pytest.mark.parametrize(("error", "left"), [(DatabaseFull("full"), False), (Unavailable("away"), True)])
def test_a_full_database_keeps_no_task_from_freeing_space_and_one_that_is_away_does(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, error: Exception, left: bool
) -> None:
    file_id = expired_file(workplace)
    failed: list[bool] = []

    def fail(*_: object) -> int:
        failed.append(True)
        raise error

    monkeypatch.setattr(outbox, "purge", fail)
    with keeping(workplace):
        wait_until(lambda: bool(failed), "the first removal has failed")
        if not left:
            wait_until(lambda: not stored(workplace, file_id), "the file is deleted", 10)
    assert stored(workplace, file_id) is left


def test_more_than_a_batch_is_removed_in_several_transactions(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "_BATCH", 2)
    with workplace.database.write() as s:
        made = evals.add(s, workplace.project_id, "eval", {})
        for _ in range(5):
            evals.add_run(s, made, "run", {}).deleted_at = 1.0
    sent = [workplace.submit_tiny() for _ in range(3)]
    with workplace.database.write() as s:
        outbox.mark_sent(s, [message.id for message in outbox.pending(s, 10)])
        for message in s.query(Outbox):
            message.sent_at = 1.0
    assert housekeeping.purge(workplace.database) == 5 + len(sent)
    with workplace.database.read() as s:
        assert (s.query(EvalRun).count(), s.query(Outbox).count()) == (0, 0)
