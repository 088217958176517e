"""Settling: what an attempt came to, told to the database in one fenced transaction."""

import logging
import time
from typing import Any, NamedTuple

from db import artifacts, files, leases, records
from db.archives import Archive, Member
from db.artifacts import FileEntry
from db.blobs import Blob
from db.errors import BlobsUnavailable
from db.session import Session
from db.state import JobState
from engine.errors import EXIT_OK, EXIT_STOPPED
from engine.events import Exported, Finished, Used
from workers import failures, process, stage
from workers.attempt import Attempt
from workers.claim import Lease, LeaseLostError
from workers.failures import Failure
from workers.settings import WorkerSettings
from workers.supervise import End

_LOG = logging.getLogger(__name__)


def settle(attempt: Attempt, end: End) -> None:
    """Bring the job to what the engine's end means: cancelled, succeeded, queued again, or failed."""
    succeeded = end.exit_code == EXIT_OK and end.finished is not None
    lease = attempt.lease
    asked = attempt.stopping.is_set() or lease.let_go_requested.is_set()
    stopped = end.failed is None and (asked or end.exit_code == EXIT_STOPPED)
    if lease.cancel_requested.is_set():
        cancel(lease, end.exit_code)
    elif succeeded and end.finished is not None:
        succeed(attempt, end.finished, end.exported, end.used)
    elif stopped and end.exit_code == EXIT_STOPPED:
        give_back(lease)
    elif stopped:
        give_back(
            lease, "ended where it did not save and stop in time; the job goes on from its last checkpoint, if any"
        )
    else:
        log = process.log_path(attempt.run_dir)
        failure = failures.classify(end.exit_code, end.failed, log)
        if end.killed_for_memory:
            failure = failures.for_want_of_memory(failure, end.lighter)
        _give_up_for_now(lease, lease.blame(failure), attempt.settings)


def _give_up_for_now(lease: Lease, failure: Failure, settings: WorkerSettings) -> None:
    """What is nobody's fault puts the job off, here or on another of its workers; all else is a failed attempt."""
    if failures.for_want_of_space(failure) or failure.code == failures.NO_SPACE.code:
        wait_for_space(lease, failure.message, settings)
    elif failure.code == failures.NO_BLOBS.code:
        wait_for_blobs(lease, failure.message, settings)
    elif failure.code == failures.STOPPING.code:
        give_back(lease, failure.message)
    else:
        give_up(lease, failure, settings)


def succeed(attempt: Attempt, finished: Finished, exported: list[Exported], used: Used | None) -> None:
    """Publish the results, models or figures with a file of items, and end the job in the same transaction.

    Each has been loaded and evaluated by the engine before it said so; every file of it is
    hashed here as it is stored. A cancel that came until now wins, and nothing is published.
    """
    lease = attempt.lease
    results, archives, items = _store_patiently(attempt, finished, exported)

    def act(s: Session) -> None:
        renewal = leases.renew(s, lease.job.id, lease.fence, lease_s=lease.lease_s)
        if renewal is None:
            raise LeaseLostError(lease.job.id)
        if renewal.cancel_requested:
            leases.settle(s, lease.job.id, lease.fence, state=JobState.CANCELLED, message="cancelled while saving")
            return
        message = _publish(s, attempt, results) if results else "evaluated"
        records.end_at(s, lease.job.id, finished.step)
        result: dict[str, Any] = {"metrics": finished.metrics, "groups": finished.groups}
        result["usage"] = None if used is None else used.model_dump(mode="json", exclude={"seq", "time", "type"})
        result["files"] = [_keep_items(s, lease, items, int(finished.metrics["eval_rows"] or 0))] if items else []
        result["files"] += [_keep_archive(s, lease, archive) for archive in archives]
        leases.settle(
            s, lease.job.id, lease.fence,
            state=JobState.SUCCEEDED, message=message, result=result, exit_code=EXIT_OK,
        )  # fmt: skip

    lease.write(act, last=True)


class _Stored(NamedTuple):
    """What a run has made, in the blob store."""

    results: list[tuple[Exported, list[FileEntry]]]
    archives: list[Blob]
    items: Blob | None


def _store_patiently(attempt: Attempt, finished: Finished, exported: list[Exported]) -> _Stored:
    """Again and again while the blob store is away: the job is trained already.

    Raises:
        AskedToStop: it is to be let go first.
    """
    told = False
    while True:
        try:
            return _store(attempt, finished, exported)
        except BlobsUnavailable as error:
            attempt.heed()
            message = f"trained; its results are stored as soon as the blob store is back: {error}"
            _LOG.warning("job %s: %s", attempt.lease.job.id, message)
            if not told:
                _tell(attempt.lease, message)
                told = True
            attempt.stopping.wait(attempt.settings.blobs_wait_s)


def _tell(lease: Lease, message: str) -> None:
    event = {"type": "log", "level": "warn", "message": message, "data": {"code": "results_not_stored"}}
    event |= {"created_at": time.time()}
    lease.write(
        lambda s: records.append(s, lease.job.id, lease.fence, events=[event], metrics=[], lease_s=lease.lease_s)
    )


def _store(attempt: Attempt, finished: Finished, exported: list[Exported]) -> _Stored:
    folders = [(one, stage.folder_of(attempt.run_dir, one.path)) for one in exported]
    results = [(one, stage.store(folder, attempt.blobs, attempt.heed_cancel)) for one, folder in folders]
    archives = [_archived(attempt, entries) for one, entries in results if one.layout == "adapter"]
    items = attempt.blobs.put_file(stage.folder_of(attempt.run_dir, finished.items)) if finished.items else None
    # The first lay there unnamed while the last were stored.
    for (_, entries), (_, folder) in zip(results, folders, strict=True):
        stage.keep(entries, folder, attempt.blobs)
    return _Stored(results, archives, items)


def _keep_items(s: Session, lease: Lease, items: Blob, row_count: int) -> str:
    """Enter what is told of every row as a file of the project; its id."""
    return files.add(
        s, lease.job.project_id,
        filename=f"{lease.job.id}.jsonl", purpose="eval-results", size_bytes=items.size_bytes,
        sha256=items.sha256, format="items", row_count=row_count, key_id=lease.job.key_id,
    ).id  # fmt: skip


def _archived(attempt: Attempt, entries: list[FileEntry]) -> Blob:
    """An adapter in one piece, as OpenAI's clients fetch it: the only download they know is that of a file."""
    return Archive(attempt.blobs, [Member(*entry) for entry in entries]).store()


def _keep_archive(s: Session, lease: Lease, archive: Blob) -> str:
    name = lease.job.spec.get("suffix") or lease.job.id
    return files.add(
        s, lease.job.project_id,
        filename=f"{name}.tar", purpose="fine-tune-results", size_bytes=archive.size_bytes,
        sha256=archive.sha256, format="archive", row_count=0, key_id=lease.job.key_id,
    ).id  # fmt: skip


def cancel(lease: Lease, exit_code: int | None = None) -> None:
    """End the job as its owner asked."""
    _let_go(
        lease,
        lambda s: leases.settle(
            s, lease.job.id, lease.fence, state=JobState.CANCELLED, message="cancelled", exit_code=exit_code
        ),
    )


def leave_off(lease: Lease) -> None:
    """What was asked of the job while no engine was at work: to end, or to be given back."""
    if lease.cancel_requested.is_set():
        cancel(lease)
    else:
        give_back(lease, "stopped; the job goes on from its last checkpoint, if it has one")


def give_back(lease: Lease, message: str = "stopped after saving; the job goes on from its last checkpoint") -> None:
    """Queue the job again through no fault of its own: its worker was told to stop, or it was itself."""
    _let_go(lease, lambda s: leases.release(s, lease.job.id, lease.fence, outcome="stopped", message=message))


def wait_for_space(lease: Lease, reason: str, settings: WorkerSettings) -> None:
    """Queue the job again, for later and through no fault of its own: its worker's disk is full."""
    message = f"waiting for space on the disk of worker {lease.job.worker}: {reason}"
    _put_off(lease, "no_space", message, settings.space_wait_s)


def wait_for_blobs(lease: Lease, reason: str, settings: WorkerSettings) -> None:
    """The same where the blob store is away."""
    _put_off(lease, "no_blobs", f"waiting for the blob store: {reason}", settings.blobs_wait_s)


def _put_off(lease: Lease, outcome: str, message: str, delay_s: float) -> None:
    _let_go(
        lease,
        lambda s: leases.release(s, lease.job.id, lease.fence, outcome=outcome, message=message, delay_s=delay_s),
    )


def give_up(lease: Lease, failure: Failure, settings: WorkerSettings) -> None:
    """End the attempt: another follows where it may help."""
    _let_go(lease, lambda s: fail(s, lease.job.id, lease.fence, failure, settings) is not None)


def fail(s: Session, job_id: str, fence: int, failure: Failure, settings: WorkerSettings) -> JobState | None:
    """Queue the job again or fail it, by the class of the failure; None when the fence is stale."""
    told: dict[str, Any] = {
        "failure": failure.failure.value,
        "code": failure.code,
        "message": failure.message,
        "mend": failure.mend,
        "exit_code": failure.exit_code,
    }
    if failure.failure in failures.RETRIED:
        return leases.retry_or_fail(
            s, job_id, fence, **told, max_attempts=settings.max_attempts, backoff_s=settings.backoff_s
        )
    return JobState.FAILED if leases.settle(s, job_id, fence, state=JobState.FAILED, **told) else None


def _let_go(lease: Lease, act: Any) -> None:
    if not lease.write(act, last=True):
        raise LeaseLostError(lease.job.id)


def _publish(s: Session, attempt: Attempt, results: list[tuple[Exported, list[FileEntry]]]) -> str:
    """A merged model is built on the adapter that is in it, and named after it."""
    lease = attempt.lease
    name = lease.job.spec.get("suffix") or lease.job.id
    ids: dict[str, str] = {}
    told: list[str] = []
    for exported, entries in results:
        adapter_id = ids.get(exported.merged_from or "")
        lineage = attempt.lineage | {"step": exported.step}
        artifact = artifacts.publish_result(
            s, lease.job.id, lease.fence,
            kind=exported.layout, layout=exported.layout, name=f"{name}-merged" if adapter_id else name,
            step=exported.step, files=entries, metrics=exported.metrics,
            lineage=lineage | {"merged_from": adapter_id} if adapter_id else lineage, base_id=adapter_id,
            limits=stage.limits_of(stage.folder_of(attempt.run_dir, exported.path)),
        )  # fmt: skip
        if artifact is None:
            raise LeaseLostError(lease.job.id)
        ids[exported.path] = artifact.id
        told.append(f"{artifact.kind} {artifact.name}/{artifact.version}")
    return f"{' and '.join(told)} {'is' if len(told) == 1 else 'are'} ready"
