"""Artifacts: published once, versions in order, found and let go."""

import hashlib
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from db import artifacts, jobs, leases, lineage, orders, permissions
from db.artifacts import FileEntry
from db.errors import InUse
from db.models import Artifact
from db.state import JobState
from tests.integration.db.work import ENTRY, Work


def steps(work: Work, job_id: str) -> list[int]:
    rows, _ = work.read(artifacts.page, work.project_id, kinds=["checkpoint"], job_id=job_id, after=None, limit=100)
    return [row.step for row in rows]


def settled(work: Work, name: str = "tiny", **changes) -> Artifact:
    """The result of a job that succeeded."""
    job_id = work.submit(**{key: changes.pop(key) for key in list(changes) if key == "base_artifact_id"})
    fence = work.run(job_id)
    artifact = work.result(job_id, fence, name, **changes)
    assert artifact is not None
    work.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    return artifact


def test_an_artifact_keeps_what_it_was_published_with(work: Work):
    files = [FileEntry("b/c.json", "b" * 64, 3), FileEntry("a.bin", "a" * 64, 4)]
    made = settled(work, files=files, metrics={"loss": 1.5}, lineage={"seed": 42})
    found = work.read(artifacts.get, work.project_id, made.id)
    assert (found.size_bytes, found.metrics, found.lineage) == (7, {"loss": 1.5}, {"seed": 42})
    rows = work.read(artifacts.files, made.id)
    assert [(row.path, row.sha256, row.size_bytes) for row in rows] == sorted(files)


def test_the_digest_is_what_sha256sum_makes_of_the_files(work: Work, tmp_path: Path):
    content = {"b.json": b"{}", "a.bin": b"\0\1", "sub/c.txt": b"c"}
    for name, data in content.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    entries = [FileEntry(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in content.items()]
    line = "sha256sum $(find . -type f -printf '%P\\n' | LC_ALL=C sort) | sha256sum"
    by_hand = subprocess.check_output(["sh", "-c", line], cwd=tmp_path / "files", text=True)
    assert settled(work, files=entries).digest == by_hand.split()[0]


def test_publishing_a_step_again_gives_the_artifact_that_is_there(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    first, again = work.checkpoint(job_id, fence, 5), work.checkpoint(job_id, fence, 5, metrics={"loss": 2.0})
    assert first is not None
    assert again is not None
    assert (again.id, again.metrics) == (first.id, {"loss": 2.0})
    result, result_again = work.result(job_id, fence), work.result(job_id, fence)
    assert result is not None
    assert result_again is not None
    assert (result_again.id, result_again.version) == (result.id, 1)


def test_versions_of_a_name_count_up_and_are_never_used_twice(work: Work):
    first, second = settled(work), settled(work)
    work.write(artifacts.delete, work.project_id, second.id)
    assert [first.version, second.version, settled(work).version] == [1, 2, 3]


def test_models_and_adapters_of_one_name_share_its_versions(work: Work):
    assert [settled(work).version, settled(work, kind="adapter", layout="adapter").version] == [1, 2]


def test_projects_count_their_versions_apart(work: Work, theirs: Work):
    assert [settled(work).version, settled(theirs).version] == [1, 1]


def test_jobs_that_publish_one_name_at_once_get_versions_in_a_row(work: Work):
    held = [(job_id, work.run(job_id)) for job_id in [work.submit() for _ in range(8)]]
    versions: list[int | None] = []

    def publish(job_id: str, fence: int) -> None:
        artifact = work.result(job_id, fence)
        assert artifact is not None
        versions.append(artifact.version)

    threads = [threading.Thread(target=publish, args=holder) for holder in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions, key=str) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_newest_checkpoints_are_kept(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    for step in (10, 20, 30, 40):
        work.checkpoint(job_id, fence, step, keep=2)
    assert steps(work, job_id) == [40, 30]


def test_the_best_checkpoint_is_kept_beside_the_newest(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    for step, loss in ((10, 3.0), (20, 1.0), (30, None), (40, 2.0), (50, 2.5)):
        work.checkpoint(job_id, fence, step, keep=2, best_by="eval_loss", metrics={"eval_loss": loss})
    assert steps(work, job_id) == [50, 40, 20]


def test_the_best_is_the_greatest_where_greater_is_better(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    for step, accuracy in ((10, 0.5), (20, 0.9), (30, 0.6), (40, 0.7)):
        metrics = {"eval_accuracy": accuracy}
        work.checkpoint(job_id, fence, step, keep=1, best_by="eval_accuracy", greater_is_better=True, metrics=metrics)
    assert steps(work, job_id) == [40, 20]


def test_a_checkpoint_that_a_waiting_job_starts_from_is_kept(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    first = work.checkpoint(job_id, fence, 10)
    assert first is not None
    work.submit(base_artifact_id=first.id)
    for step in (20, 30):
        work.checkpoint(job_id, fence, step, keep=1)
    assert steps(work, job_id) == [30, 10]


def test_a_checkpoint_that_a_waiting_job_compares_with_is_kept(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    first = work.checkpoint(job_id, fence, 10)
    assert first is not None
    spec = {"kind": "eval", "compare_to": first.id}
    work.submit(kind="eval", spec=spec, base_artifact_id=settled(work).id)
    for step in (20, 30):
        work.checkpoint(job_id, fence, step, keep=1)
    assert steps(work, job_id) == [30, 10]


def test_a_step_whose_checkpoint_was_deleted_can_be_published_again(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    work.checkpoint(job_id, fence, 10, keep=1)
    work.checkpoint(job_id, fence, 20, keep=1)
    again = work.checkpoint(job_id, fence, 10, keep=5, files=[FileEntry("new", "c" * 64, 1)])
    assert again is not None
    assert [file.path for file in work.read(artifacts.files, again.id)] == ["new"]
    assert steps(work, job_id) == [20, 10]


def test_a_reference_is_an_id_a_name_or_a_name_and_version(work: Work):
    first, second = settled(work, "group/tiny"), settled(work, "group/tiny")

    def resolved(reference: str) -> str | None:
        found = work.read(artifacts.resolve, work.project_id, reference)
        return found and found.id

    assert resolved(first.id) == first.id
    assert resolved("group/tiny") == second.id
    assert resolved("group/tiny/1") == first.id
    for nothing in ("tiny", "group/tiny/3", "group/tiny/x", "group/tiny/²", "", "/", "\0", "a/" + "9" * 400):
        assert resolved(nothing) is None


def test_a_name_stands_for_its_newest_version_that_is_there(work: Work):
    first, second = settled(work), settled(work)
    work.write(artifacts.delete, work.project_id, second.id)
    assert work.read(artifacts.resolve, work.project_id, "tiny").id == first.id


def test_a_name_that_is_a_model_and_an_adapter_stands_for_the_newest_of_the_kind_asked_for(work: Work):
    model, adapter = settled(work, "bot"), settled(work, "bot", kind="adapter", layout="adapter")

    def resolved(reference: str, *kinds: str) -> str | None:
        found = work.read(artifacts.resolve, work.project_id, reference, kinds=kinds or None)
        return found and found.id

    assert resolved("bot") == resolved("bot", "adapter") == adapter.id
    assert resolved("bot", "model") == model.id
    assert resolved("bot/2", "model") is None


def test_another_project_does_not_find_the_artifact(work: Work, theirs: Work):
    made = settled(work)
    for reference in (made.id, "tiny", "tiny/1"):
        assert work.read(artifacts.resolve, theirs.project_id, reference) is None
    assert work.read(artifacts.get, theirs.project_id, made.id) is None
    assert work.write(artifacts.delete, theirs.project_id, made.id) is False
    assert work.read(artifacts.names, theirs.project_id) == []


def test_a_deleted_artifact_is_hidden_and_its_lineage_is_not(work: Work):
    base = settled(work, "base")
    child = settled(work, "child", base_artifact_id=base.id)
    assert work.write(artifacts.delete, work.project_id, base.id) is True
    assert work.read(artifacts.get, work.project_id, base.id) is None
    assert work.read(artifacts.names, work.project_id) == ["child"]
    assert work.write(artifacts.delete, work.project_id, base.id) is False
    assert [row.id for row in work.read(lineage.ancestors, child)] == [base.id]


def test_an_artifact_that_a_job_needs_cannot_be_deleted(work: Work):
    base = settled(work)
    job_id = work.submit(base_artifact_id=base.id)
    with pytest.raises(InUse) as caught:
        work.write(artifacts.delete, work.project_id, base.id)
    assert caught.value.job_ids == [job_id]


def test_the_model_below_an_adapter_that_a_job_needs_cannot_be_deleted(work: Work):
    model = settled(work, "ground")
    adapter = settled(work, "bot", kind="adapter", layout="adapter", base_artifact_id=model.id)
    job_id = work.submit(base_artifact_id=adapter.id)
    with pytest.raises(InUse) as caught:
        work.write(artifacts.delete, work.project_id, model.id)
    assert caught.value.job_ids == [job_id]


@pytest.mark.parametrize("name", ["bot", "bot-7", "9/1"])
def test_an_adapter_that_a_job_compares_with_and_the_model_below_it_cannot_be_deleted(work: Work, name: str):
    model = settled(work, "ground")
    other = settled(work, name, kind="adapter", layout="adapter")
    adapter = settled(work, name, kind="adapter", layout="adapter", base_artifact_id=model.id)
    spec = {"kind": "eval", "compare_to": f"{name}/{adapter.version}"}
    job_id = work.submit(kind="eval", spec=spec, base_artifact_id=settled(work, "candidate").id)
    for needed in (adapter, model):
        with pytest.raises(InUse) as caught:
            work.write(artifacts.delete, work.project_id, needed.id)
        assert caught.value.job_ids == [job_id]
    assert work.write(artifacts.delete, work.project_id, other.id)
    work.write(leases.settle, job_id, work.run(job_id), state=JobState.SUCCEEDED)
    assert work.write(artifacts.delete, work.project_id, model.id)


def test_a_name_of_another_project_is_not_what_a_job_compares_with(work: Work, theirs: Work):
    settled(work, "bot")
    spec = {"kind": "eval", "compare_to": "bot/1"}
    work.submit(kind="eval", spec=spec, base_artifact_id=settled(work, "candidate").id)
    assert theirs.write(artifacts.delete, theirs.project_id, settled(theirs, "bot").id)


@pytest.fixture
def lent(work: Work, theirs: Work) -> Artifact:
    """A model of `work` that `theirs` has permission to use."""
    model = settled(work, "lent")
    work.write(permissions.grant, model.id, [theirs.project_id])
    return model


def refusal(work: Work, artifact: Artifact) -> InUse:
    with pytest.raises(InUse) as caught:
        work.write(artifacts.delete, work.project_id, artifact.id)
    return caught.value


def revoke(work: Work, artifact: Artifact) -> None:
    asked: dict[str, Any] = {"project_id": None, "after": None, "limit": 9, "order": "asc"}
    for permission in work.read(permissions.page, artifact.id, **asked)[0]:
        assert work.write(permissions.revoke, artifact.id, permission.id)


def test_the_ids_of_jobs_of_another_project_are_not_given_to_the_owner_of_what_they_use(
    work: Work, theirs: Work, lent: Artifact
):
    own, their_id = work.submit(base_artifact_id=lent.id), theirs.submit(base_artifact_id=lent.id)
    refused = refusal(work, lent)
    assert (refused.job_ids, refused.lent) == ([own], True)
    assert own in str(refused)
    assert their_id not in str(refused)


def test_what_another_project_may_use_is_deleted_despite_its_paused_job_once_the_permission_is_revoked(
    work: Work, theirs: Work, lent: Artifact
):
    job_id = theirs.submit(base_artifact_id=lent.id)
    assert theirs.write(orders.pause, theirs.project_id, job_id)
    refused = refusal(work, lent)
    assert (refused.job_ids, refused.lent, "revoke the permission" in str(refused)) == ([], True, True)
    revoke(work, lent)
    assert work.write(artifacts.delete, work.project_id, lent.id)


def test_a_job_of_another_project_that_runs_keeps_what_it_uses_though_the_permission_is_revoked(
    work: Work, theirs: Work, lent: Artifact
):
    job_id = theirs.submit(base_artifact_id=lent.id)
    fence = theirs.run(job_id)
    revoke(work, lent)
    assert refusal(work, lent).lent
    theirs.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    assert work.write(artifacts.delete, work.project_id, lent.id)


def test_a_waiting_job_on_an_adapter_of_theirs_keeps_the_model_that_they_may_use(
    work: Work, theirs: Work, lent: Artifact
):
    adapter = settled(theirs, "on-lent", kind="adapter", layout="adapter", base_artifact_id=lent.id)
    theirs.submit(base_artifact_id=adapter.id)
    assert refusal(work, lent).lent
    revoke(work, lent)
    assert work.write(artifacts.delete, work.project_id, lent.id)


def test_the_model_that_a_needed_model_was_made_from_can_be_deleted(work: Work):
    ground = settled(work, "ground")
    work.submit(base_artifact_id=settled(work, "tuned", base_artifact_id=ground.id).id)
    assert work.write(artifacts.delete, work.project_id, ground.id)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_model_below_an_adapter_is_not_deleted_while_a_job_is_made_from_it(work: Work):
    model = settled(work, "ground")
    adapter = settled(work, "bot", kind="adapter", layout="adapter", base_artifact_id=model.id)
    with ThreadPoolExecutor() as aside:
        with work.database.write() as s:
            assert artifacts.hold(s, [adapter.id])
            deleting = aside.submit(work.write, artifacts.delete, work.project_id, model.id)
            with pytest.raises(TimeoutError):
                deleting.result(0.5)
            (job,) = jobs.create(s, [jobs.NewJob(work.project_id, {}, "sft", 0, adapter.id)])
        with pytest.raises(InUse) as caught:
            deleting.result(10)
    assert caught.value.job_ids == [job.id]


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_checkpoint_that_a_job_is_being_made_from_makes_no_room(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    oldest = work.checkpoint(job_id, fence, 10)
    assert oldest is not None
    work.checkpoint(job_id, fence, 20)
    with work.database.write() as s:
        assert artifacts.hold(s, [oldest.id])
        jobs.create(s, [jobs.NewJob(work.project_id, {}, "sft", 0, oldest.id)])
        work.checkpoint(job_id, fence, 30, keep=1)
    assert steps(work, job_id) == [30, 10]
    work.checkpoint(job_id, fence, 40, keep=1)
    assert steps(work, job_id) == [40, 10]


def test_a_checkpoint_of_a_job_that_runs_cannot_be_deleted(work: Work):
    job_id = work.submit()
    made = work.checkpoint(job_id, work.run(job_id), 5)
    assert made is not None
    with pytest.raises(InUse):
        work.write(artifacts.delete, work.project_id, made.id)


def test_artifacts_are_paged_newest_first_and_narrowed_by_name(work: Work):
    made = [settled(work, name) for name in ("a", "b", "a")]

    def shown(**asked) -> tuple[list[str], bool]:
        rows, more = work.read(artifacts.page, work.project_id, kinds=["model"], **asked)
        return [row.id for row in rows], more

    assert shown(after=None, limit=2) == ([made[2].id, made[1].id], True)
    assert shown(after=made[1].id, limit=2) == ([made[0].id], False)
    assert shown(after=None, limit=9, name="a") == ([made[2].id, made[0].id], False)


def test_an_artifact_without_files_has_the_digest_of_nothing(work: Work):
    assert settled(work, files=[]).digest == hashlib.sha256(b"").hexdigest()


def test_the_order_of_the_files_does_not_change_the_digest():
    other = FileEntry("config.json", "b" * 64, 1)
    assert artifacts.digest_of([ENTRY, other]) == artifacts.digest_of([other, ENTRY])
