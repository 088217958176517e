"""Projects, keys and files."""

import threading

import pytest
from sqlalchemy import text

from db import files, jobs, keys, leases, orders, projects
from db.errors import InUse
from db.models import File
from db.state import JobState
from tests.integration.db.work import Work

SECRET = b"pepper"


def upload(work: Work, name: str = "rows.jsonl", purpose: str = "fine-tune") -> File:
    return work.write(
        files.add, work.project_id, filename=name, purpose=purpose,
        size_bytes=5_000_000_000, sha256="a" * 64, format="chat", row_count=3,
    )  # fmt: skip


def test_a_project_is_found_by_its_id_and_its_name(work: Work, theirs: Work):
    assert work.read(projects.get, work.project_id).name == "mine"
    assert work.read(projects.by_name, "theirs").id == theirs.project_id
    assert work.read(projects.by_name, "mine\0") is None


def test_a_key_opens_its_project(work: Work):
    key, token = work.write(keys.create, work.project_id, "laptop", SECRET)
    assert len(token) == 46
    assert token.startswith(key.prefix)
    assert work.read(keys.authenticate, token, SECRET).project_id == work.project_id


@pytest.mark.parametrize("token", ["", "ty-", "ty-" + "a" * 43, "\0", "\ud800", "x" * 100_000])
def test_any_other_token_opens_nothing(work: Work, token: str):
    work.write(keys.create, work.project_id, "laptop", SECRET)
    assert work.read(keys.authenticate, token, SECRET) is None


def test_a_token_opens_nothing_under_another_secret(work: Work):
    _, token = work.write(keys.create, work.project_id, "laptop", SECRET)
    assert work.read(keys.authenticate, token, b"other") is None


def test_a_revoked_key_opens_nothing_and_stays_listed(work: Work):
    key, token = work.write(keys.create, work.project_id, "laptop", SECRET)
    assert work.write(keys.revoke, work.project_id, key.id) is True
    assert work.read(keys.authenticate, token, SECRET) is None
    assert work.write(keys.revoke, work.project_id, key.id) is False
    assert [listed.revoked_at is None for listed in work.read(keys.list_keys, work.project_id)] == [False]


def test_another_project_cannot_revoke_a_key(work: Work, theirs: Work):
    key, token = work.write(keys.create, work.project_id, "laptop", SECRET)
    assert work.write(keys.revoke, theirs.project_id, key.id) is False
    assert work.read(keys.authenticate, token, SECRET) is not None


def test_the_database_holds_no_token(work: Work):
    _, token = work.write(keys.create, work.project_id, "laptop", SECRET)
    rows = work.read(lambda s: s.execute(text("SELECT * FROM api_keys")).all())
    assert token not in repr(rows)
    assert token[3:] not in repr(rows)


def test_a_file_is_seen_by_its_project_alone(work: Work, theirs: Work):
    file = upload(work)
    assert work.read(files.get, work.project_id, file.id).size_bytes == 5_000_000_000
    assert work.read(files.get, theirs.project_id, file.id) is None
    assert work.write(files.delete, theirs.project_id, file.id) is False
    assert work.read(files.page, theirs.project_id, after=None, limit=10) == ([], False)


def test_files_are_paged_in_either_order_and_narrowed_by_purpose(work: Work):
    a, b, c = upload(work, "a"), upload(work, "b", "evals"), upload(work, "c")

    def shown(**asked) -> list[str]:
        return [file.id for file in work.read(files.page, work.project_id, limit=10, **asked)[0]]

    assert shown(after=None) == [c.id, b.id, a.id]
    assert shown(after=None, order="asc") == [a.id, b.id, c.id]
    assert shown(after=a.id, order="asc") == [b.id, c.id]
    assert shown(after=None, purpose="evals") == [b.id]


def test_a_name_of_a_file_may_be_any_text(work: Work):
    file = upload(work, "../\0\ud800/ü.jsonl")
    assert work.read(files.get, work.project_id, file.id).filename == "../\ufffd\ufffd/ü.jsonl"


def test_a_deleted_file_is_gone_for_its_project(work: Work):
    file = upload(work)
    assert work.write(files.delete, work.project_id, file.id) is True
    assert work.read(files.get, work.project_id, file.id) is None
    assert work.read(files.page, work.project_id, after=None, limit=10) == ([], False)
    assert work.write(files.delete, work.project_id, file.id) is False


def test_a_file_that_a_job_trains_on_is_deleted_only_after_its_end(work: Work):
    file = upload(work)
    job_id = work.submit(spec={"data": {"training_file": file.id}})
    with pytest.raises(InUse) as caught:
        work.write(files.delete, work.project_id, file.id)
    assert caught.value.job_ids == [job_id]
    work.write(leases.settle, job_id, work.run(job_id), state=JobState.SUCCEEDED)
    assert work.write(files.delete, work.project_id, file.id) is True


def test_a_file_of_a_cancelled_job_can_be_deleted(work: Work):
    file = upload(work)
    job_id = work.submit(spec={"eval_file": file.id})
    work.write(orders.cancel, work.project_id, job_id)
    assert work.write(files.delete, work.project_id, file.id) is True


def test_a_file_is_not_deleted_in_the_instant_that_a_job_is_made_with_it(work: Work):
    file = upload(work)
    refused: list[bool] = []

    def delete() -> None:
        try:
            work.write(files.delete, work.project_id, file.id)
        except InUse:
            refused.append(True)

    deleting = threading.Thread(target=delete)
    with work.database.write() as s:
        assert files.keep(s, work.project_id, file.id) is not None
        deleting.start()
        deleting.join(0.5)
        jobs.create(s, [jobs.NewJob(work.project_id, {"training_file": file.id}, "sft", 0)])
    deleting.join()
    assert refused == [True]
