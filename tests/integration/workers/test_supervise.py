"""An engine at work: what it tells reaches the database, and it ends when it must."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from db import leases, orders
from db.blobs import Blob, BlobStore
from db.errors import BlobsUnavailable
from tests.integration.workers.puppets import (
    SlowBlobs,
    Stage,
    checkpoint,
    finished,
    lose_every_other_answer,
    metrics,
    start,
    started,
)
from tests.integration.workers.workplace import Workplace, alive, wait_until
from workers import failures, recover, settle
from workers.claim import LeaseLostError
from workers.supervise import Supervision


def told_steps(workplace: Workplace, job_id: str) -> list[int | None]:
    return [record.step for record in workplace.records(job_id, "metrics")]


def test_events_and_metrics_reach_the_database_in_their_order(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        end = Stage(workplace, lease, [started(2), metrics(1), metrics(2), ("exit", 0)]).supervise()
    assert end.exit_code == 0
    assert [record.type for record in workplace.records(job_id)][-3:] == ["started", "metrics", "metrics"]
    job = workplace.job(job_id)
    assert (job.state, job.step, job.total_steps, job.progress) == ("running", 2, 2, {"loss": 1.0})


def test_half_a_line_is_read_when_it_is_whole(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    line = '{"seq": 1, "time": 1.5, "type": "metrics", "step": 1, "split": "train", "values": {"loss": 2.5}}\n'
    script = [("raw", line[:40]), ("sleep", 0.3), ("raw", line[40:]), ("exit", 0)]
    with workplace.claim(job_id) as lease:
        Stage(workplace, lease, script).supervise()
    assert workplace.losses(job_id) == {1: 2.5}


def test_a_line_that_is_not_an_event_is_passed_over(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    script = [("raw", "not JSON\n"), ("raw", '{"type": "party"}\n'), metrics(1), ("exit", 0)]
    with workplace.claim(job_id) as lease:
        Stage(workplace, lease, script).supervise()
    assert workplace.losses(job_id) == {1: 1.0}


def test_many_lines_at_once_are_all_written(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        Stage(workplace, lease, [*(metrics(step) for step in range(1, 1201)), ("exit", 0)]).supervise()
    assert len(workplace.losses(job_id)) == 1200


def test_nothing_is_told_twice_when_the_answers_to_its_commits_are_lost(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = workplace.submit_tiny()
    script = [started(), metrics(1), *checkpoint(1), metrics(2), ("exit", 1)]
    with workplace.claim(job_id) as lease:
        staged = Stage(workplace, lease, script)
        lease.begin_running()
        lose_every_other_answer(workplace.database, monkeypatch)
        Supervision(staged.attempt, start(staged.attempt.run_dir)).run()
    told = [record.type for record in workplace.records(job_id)]
    assert told[-4:] == ["started", "metrics", "checkpoint", "metrics"]
    assert told.count("started") == told.count("checkpoint") == 1


def test_a_checkpoint_is_told_with_its_artifact_and_its_files_are_stored(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        Stage(workplace, lease, [started(), metrics(1), *checkpoint(1), ("exit", 1)]).supervise()
    (artifact,) = workplace.artifacts(job_id, "checkpoint")
    (told,) = workplace.records(job_id, "checkpoint")
    assert told.data is not None
    assert told.data["artifact_id"] == artifact.id
    files = workplace.digests(artifact)
    assert sorted(files) == ["model.safetensors", "state/progress.json"]
    assert all(workplace.blobs.exists(sha256) for sha256 in files.values())


def test_a_checkpoint_carries_its_lineage(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        Stage(workplace, lease, [*checkpoint(3), ("exit", 1)]).supervise()
    (artifact,) = workplace.artifacts(job_id, "checkpoint")
    lineage = artifact.lineage
    assert {key: lineage[key] for key in ("job_id", "kind", "attempt", "step", "base")} == {
        "job_id": job_id,
        "kind": "pretrain",
        "attempt": 1,
        "step": 3,
        "base": None,
    }
    assert lineage["files"][0]["id"] == workplace.job(job_id).spec["training_file"]
    assert len(lineage["files"][0]["sha256"]) == len(lineage["spec_digest"]) == 64


def test_a_checkpoint_that_the_engine_has_replaced_meanwhile_is_passed_over(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    _, told = checkpoint(1)
    with workplace.claim(job_id) as lease:
        end = Stage(workplace, lease, [told, *checkpoint(2), ("exit", 0)]).supervise()
    assert end.exit_code == 0
    assert [artifact.step for artifact in workplace.artifacts(job_id, "checkpoint")] == [2]


def test_a_cancelled_job_ends_cancelled(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id, heartbeat_s=0.1) as lease:
        stage = Stage(workplace, lease, [started(), ("sleep", 30)])
        workplace.once_recorded(job_id, "started", workplace.cancel, job_id)
        settle.settle(stage.attempt, stage.supervise())
    assert workplace.job(job_id).state == "cancelled"


def test_an_engine_that_ignores_the_cancel_is_killed_after_its_grace(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"heartbeat_s": 0.1, "kill_grace_s": 0.5})
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("ignore", "SIGINT"), started(), ("sleep", 30)])
        workplace.once_recorded(job_id, "started", workplace.cancel, job_id)
        end = stage.supervise()
    assert end.exit_code == -9


def test_a_cancel_reaches_the_engine_while_a_checkpoint_is_stored(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id, heartbeat_s=0.1) as lease:
        stage = Stage(workplace, lease, [*checkpoint(1), ("sleep", 30)])
        slow = SlowBlobs(workplace.settings.blobs_dir, low_space_bytes=0)
        stage.attempt = stage.attempt._replace(blobs=slow)

        def meanwhile() -> None:
            workplace.cancel(job_id)
            assert stage.engine is not None
            pid = stage.engine.pid
            wait_until(lambda: not alive(pid), "its end, before the checkpoint is stored")

        slow.meanwhile = meanwhile
        settle.settle(stage.attempt, stage.supervise())
    assert slow.asked > 0
    assert workplace.artifacts(job_id, "checkpoint") == []
    assert workplace.job(job_id).state == "cancelled"


def test_a_checkpoint_that_is_replaced_while_it_is_stored_is_published_all_the_same(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [*checkpoint(1), ("exit", 1)])
        slow = SlowBlobs(workplace.settings.blobs_dir, low_space_bytes=0)
        slow.meanwhile = lambda: shutil.rmtree(stage.attempt.run_dir / "checkpoints")
        stage.attempt = stage.attempt._replace(blobs=slow)
        stage.supervise()
    (artifact,) = workplace.artifacts(job_id, "checkpoint")
    assert sorted(workplace.digests(artifact)) == ["model.safetensors", "state/progress.json"]
    assert not (stage.attempt.run_dir / "held").exists()


def away_once(workplace: Workplace) -> SlowBlobs:
    """A store that cannot be reached when it is first asked."""

    def refuse() -> None:
        raise BlobsUnavailable("the blob store cannot answer")

    blobs = SlowBlobs(workplace.settings.blobs_dir, low_space_bytes=0)
    blobs.meanwhile = refuse
    return blobs


def test_a_job_trains_on_when_a_checkpoint_cannot_be_stored_and_it_is_stored_with_the_next(
    workplace: Workplace,
) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [*checkpoint(1), metrics(2), *checkpoint(2), ("exit", 1)])
        stage.attempt = stage.attempt._replace(blobs=away_once(workplace))
        assert stage.supervise().exit_code == 1
    assert sorted(artifact.step or 0 for artifact in workplace.artifacts(job_id, "checkpoint")) == [1, 2]
    (told,) = workplace.records(job_id, "log")
    assert (told.level, told.data) == ("warn", {"code": "checkpoint_not_stored", "step": 1})


def test_the_last_checkpoint_is_stored_when_the_blob_store_is_back(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"blobs_wait_s": 0.1})
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [*checkpoint(1), ("exit", 1)])
        stage.attempt = stage.attempt._replace(blobs=away_once(workplace))
        stage.supervise()
    assert [artifact.step for artifact in workplace.artifacts(job_id, "checkpoint")] == [1]


class AwayBlobs(BlobStore):
    """A store that cannot be reached when it is asked at first; `ask` is called each time."""

    ask: Callable[[], bool]

    def put_file(self, path: Path) -> Blob:
        if not self.ask():
            raise BlobsUnavailable("the blob store cannot answer")
        return super().put_file(path)


def test_while_the_last_checkpoint_waits_for_the_blob_store_its_job_says_so_once(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"blobs_wait_s": 0.1})
    told: list[int] = []

    def ask() -> bool:
        told.append(len(workplace.records(job_id, "log")))
        return len(told) > 3

    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [*checkpoint(1), ("exit", 1)])
        away = AwayBlobs(workplace.settings.blobs_dir, low_space_bytes=0)
        away.ask = ask
        stage.attempt = stage.attempt._replace(blobs=away)
        stage.supervise()
    assert told[2:4] == [1, 1]
    assert len(workplace.records(job_id, "log")) == 1
    assert [artifact.step for artifact in workplace.artifacts(job_id, "checkpoint")] == [1]


def test_results_are_stored_when_the_blob_store_is_back(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"blobs_wait_s": 0.1})
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), *finished(4)])
        stage.attempt = stage.attempt._replace(blobs=away_once(workplace))
        settle.settle(stage.attempt, stage.supervise())
    assert workplace.job(job_id).state == "succeeded"
    codes = [(record.data or {}).get("code") for record in workplace.records(job_id, "log")]
    assert codes.count("results_not_stored") == 1


def test_a_job_waits_for_the_blob_store_through_no_fault_of_its_own(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        settle.put_off_or_give_up(lease, failures.NO_BLOBS._replace(message="it is away"), workplace.settings)
    job = workplace.job(job_id)
    assert (job.state, job.failures) == ("queued", 0)
    assert job.not_before is not None
    assert [(one.outcome, one.message) for one in workplace.attempts(job_id)] == [
        ("no_blobs", "waiting for the blob store: it is away")
    ]


def test_a_cancel_while_saving_publishes_nothing(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), metrics(1), *finished(1)])
        end = stage.supervise()
        workplace.cancel(job_id)  # after the last heartbeat, before the result is published
        settle.settle(stage.attempt, end)
    assert workplace.job(job_id).state == "cancelled"
    assert workplace.artifacts(job_id, "model") == []


def test_a_result_is_published_and_the_job_succeeds(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny(suffix="tiny")
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), *finished(4)])
        settle.settle(stage.attempt, stage.supervise())
    job = workplace.job(job_id)
    assert (job.state, job.result) == (
        "succeeded",
        {"metrics": {"eval_loss": 1.0}, "groups": {}, "usage": None, "files": []},
    )
    (model,) = workplace.artifacts(job_id, "model")
    assert (model.name, model.version, model.step) == ("tiny", 1, 4)


def test_a_result_without_files_is_not_published(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    script = [action for action in finished(4) if action[0] != "files"]
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, script)
        end = stage.supervise()
        with pytest.raises(FileNotFoundError):
            settle.settle(stage.attempt, end)
    assert workplace.artifacts(job_id, "model") == []


def test_a_worker_that_is_stopped_gives_the_job_back(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), ("sleep", 30)])
        workplace.once_recorded(job_id, "started", stage.stopping.set)
        settle.settle(stage.attempt, stage.supervise())
    job = workplace.job(job_id)
    assert (job.state, job.failures) == ("queued", 0)
    assert [attempt.outcome for attempt in workplace.attempts(job_id)] == ["stopped"]


def test_a_job_that_is_paused_saves_and_waits(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id, heartbeat_s=0.1) as lease:
        stage = Stage(workplace, lease, [started(), *checkpoint(1), ("sleep", 30)])
        workplace.once_recorded(job_id, "checkpoint", workplace.order, orders.pause, job_id)
        settle.settle(stage.attempt, stage.supervise())
    job = workplace.job(job_id)
    assert (job.state, job.worker, job.failures) == ("paused", None, 0)
    assert [attempt.outcome for attempt in workplace.attempts(job_id)] == ["paused"]


def test_an_engine_that_does_not_stop_for_a_pause_is_killed_after_its_grace(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"heartbeat_s": 0.1, "save_grace_s": 0.5})
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("ignore", "SIGTERM"), started(), ("sleep", 30)])
        workplace.once_recorded(job_id, "started", workplace.order, orders.pause, job_id)
        end = stage.supervise()
        settle.settle(stage.attempt, end)
    assert end.exit_code == -9
    assert workplace.job(job_id).state == "paused"
    assert "did not save" in (workplace.attempts(job_id)[0].message or "")


def test_a_pause_waits_longer_for_the_checkpoint_than_a_worker_that_is_to_stop_can(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"heartbeat_s": 0.1, "stop_grace_s": 0.3})
    script = [("ignore", "SIGTERM"), started(), ("sleep", 2.5), *checkpoint(1), ("exit", 75)]
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, script)
        workplace.once_recorded(job_id, "started", workplace.order, orders.pause, job_id)
        settle.settle(stage.attempt, stage.supervise())
    assert workplace.job(job_id).state == "paused"
    assert [artifact.step for artifact in workplace.artifacts(job_id, "checkpoint")] == [1]


def test_a_worker_that_is_to_stop_waits_no_longer_for_a_job_that_was_to_pause(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"heartbeat_s": 0.1, "stop_grace_s": 0.3})
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("ignore", "SIGTERM"), started(), ("sleep", 30)])

        def pause_and_stop() -> None:
            workplace.order(orders.pause, job_id)
            assert lease.let_go_requested.wait(30)
            stage.stopping.set()

        workplace.once_recorded(job_id, "started", pause_and_stop)
        assert stage.supervise().exit_code == -9


def test_a_job_that_is_paused_while_its_input_is_laid_out_is_left_alone_by_its_worker(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), ("sleep", 30)])
        workplace.order(orders.pause, job_id)
        with pytest.raises(LeaseLostError):
            stage.supervise()
    assert stage.engine is None
    assert workplace.job(job_id).state == "paused"


def test_a_stale_fence_writes_nothing_and_its_engine_dies(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    script = [started(), ("await", "taken over"), metrics(1), *checkpoint(1), ("sleep", 30)]
    with workplace.claim(job_id) as stale:
        stage = Stage(workplace, stale, script)

        def lose() -> None:
            take_over(workplace, job_id)
            (stage.attempt.run_dir / "taken over").touch()

        workplace.once_recorded(job_id, "started", lose)
        with pytest.raises(LeaseLostError):
            stage.supervise()
    assert stage.engine is not None
    assert not alive(stage.engine.pid)
    assert told_steps(workplace, job_id) == []
    assert workplace.artifacts(job_id, "checkpoint") == []
    assert workplace.job(job_id).fence == 2


def take_over(workplace: Workplace, job_id: str) -> None:
    """What happens to the job of a worker that is believed dead."""
    with workplace.database.write() as s:
        assert leases.expire_worker(s, "tester") == 1
    settings = workplace.settings.model_copy(update={"backoff_s": 0.0})
    recover.bring_back(workplace.database, settings)
    with workplace.database.write() as s:
        assert leases.claim(s, job_id, worker="another", lease_s=60) is not None
