"""Settling: the result of an attempt is written to the database in one fenced transaction."""

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
    """Bring the job into the state that the engine's end calls for: cancelled, succeeded, queued again, or failed."""
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
            lease,
            "killed since it did not save and stop in time; the job resumes from its last checkpoint, if it has one",
        )
    else:
        log = process.log_path(attempt.run_dir)
        failure = failures.classify(end.exit_code, end.failed, log)
        if end.killed_for_memory:
            failure = failures.for_want_of_memory(failure, end.lighter)
        put_off_or_give_up(lease, lease.blame(failure), attempt.settings)


def put_off_or_give_up(lease: Lease, failure: Failure, settings: WorkerSettings) -> None:
    """Put the job off where the failure is the fault of its worker, or of another of them; else fail the attempt."""
    if failures.for_want_of_space(failure):
        worker = failure.worker or lease.job.worker
        message = f"waiting for space on the disk of worker {worker}: {failure.message}"
        _put_off(lease, failure, "no_space", message, settings)
    elif failure.code == failures.NO_BLOBS.code:
        whose = "" if failure.worker is None else f", which worker {failure.worker} does not reach"
        _put_off(lease, failure, "no_blobs", f"waiting for the blob store{whose}: {failure.message}", settings)
    elif failure.code == failures.STOPPING.code:
        give_back(lease, _with_worker(failure))
    else:
        give_up(lease, failure._replace(message=_with_worker(failure)), settings)


def _put_off(lease: Lease, failure: Failure, outcome: str, message: str, settings: WorkerSettings) -> None:
    delay_s = wait_s(failure, settings)
    if failure.worker is None:
        lease.rest_s = delay_s
    _let_go(
        lease,
        lambda s: leases.release(s, lease.job.id, lease.fence, outcome=outcome, message=message, delay_s=delay_s),
    )


def wait_s(failure: Failure, settings: WorkerSettings) -> float:
    """Return for how long a worker that failed in this way is likely to fail again, whatever the job."""
    if failures.for_want_of_space(failure):
        return settings.space_wait_s
    return settings.blobs_wait_s if failure.code == failures.NO_BLOBS.code else 0.0


def _with_worker(failure: Failure) -> str:
    return failure.message if failure.worker is None else f"On worker {failure.worker}: {failure.message}"


def succeed(attempt: Attempt, finished: Finished, exported: list[Exported], used: Used | None) -> None:
    """Publish the results (models, or figures with a file of items) and end the job in the same transaction.

    The engine has loaded and evaluated each model before it reported it; every file is hashed here as it is stored. A
    cancel that was requested before this transaction wins, and nothing is published.
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
    """The files that a run has made, in the blob store."""

    results: list[tuple[Exported, list[FileEntry]]]
    archives: list[Blob]
    items: Blob | None


def _store_patiently(attempt: Attempt, finished: Finished, exported: list[Exported]) -> _Stored:
    """Store the results, and retry while the blob store is away, since the job is trained already.

    Raises:
        AskedToStop: the job or the worker is to stop first.
    """
    reported = False
    while True:
        try:
            return _store(attempt, finished, exported)
        except BlobsUnavailable as error:
            attempt.heed()
            message = f"trained; the results are stored as soon as the blob store is back: {error}"
            _LOG.warning("job %s: %s", attempt.lease.job.id, message)
            if not reported:
                _warn(attempt.lease, message)
                reported = True
            attempt.stopping.wait(attempt.settings.blobs_wait_s)


def _warn(lease: Lease, message: str) -> None:
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
    # No row names the first ones yet, and storing the last ones may have taken long.
    for (_, entries), (_, folder) in zip(results, folders, strict=True):
        stage.keep(entries, folder, attempt.blobs)
    return _Stored(results, archives, items)


def _keep_items(s: Session, lease: Lease, items: Blob, row_count: int) -> str:
    """Add the graded rows as a file of the project, and return its id."""
    return files.add(
        s, lease.job.project_id,
        filename=f"{lease.job.id}.jsonl", purpose="eval-results", size_bytes=items.size_bytes,
        sha256=items.sha256, format="items", row_count=row_count, key_id=lease.job.key_id,
    ).id  # fmt: skip


def _archived(attempt: Attempt, entries: list[FileEntry]) -> Blob:
    """Store an adapter as one archive, since OpenAI's clients can only download single files."""
    return Archive(attempt.blobs, [Member(*entry) for entry in entries]).store()


def _keep_archive(s: Session, lease: Lease, archive: Blob) -> str:
    name = lease.job.spec.get("suffix") or lease.job.id
    return files.add(
        s, lease.job.project_id,
        filename=f"{name}.tar", purpose="fine-tune-results", size_bytes=archive.size_bytes,
        sha256=archive.sha256, format="archive", row_count=0, key_id=lease.job.key_id,
    ).id  # fmt: skip


def cancel(lease: Lease, exit_code: int | None = None) -> None:
    """Cancel the job, as its owner requested."""
    _let_go(
        lease,
        lambda s: leases.settle(
            s, lease.job.id, lease.fence, state=JobState.CANCELLED, message="cancelled", exit_code=exit_code
        ),
    )


def leave_off(lease: Lease) -> None:
    """Cancel the job or give it back, as was requested before its engine ran."""
    if lease.cancel_requested.is_set():
        cancel(lease)
    else:
        give_back(lease, "stopped; the job resumes from its last checkpoint, if it has one")


def give_back(lease: Lease, message: str = "stopped after saving; the job resumes from its last checkpoint") -> None:
    """Queue the job again, without counting a failure: its worker, or the job itself, was asked to stop."""
    _let_go(lease, lambda s: leases.release(s, lease.job.id, lease.fence, outcome="stopped", message=message))


def give_up(lease: Lease, failure: Failure, settings: WorkerSettings) -> None:
    """End the attempt with a failure; another attempt follows where that may help."""
    _let_go(lease, lambda s: fail(s, lease.job.id, lease.fence, failure, settings) is not None)


def fail(s: Session, job_id: str, fence: int, failure: Failure, settings: WorkerSettings) -> JobState | None:
    """Queue the job again or fail it, by the class of the failure; None when the fence is stale."""
    fields: dict[str, Any] = {
        "failure": failure.failure.value,
        "code": failure.code,
        "message": failure.message,
        "mend": failure.mend,
        "exit_code": failure.exit_code,
    }
    if failure.failure in failures.RETRIED:
        return leases.retry_or_fail(
            s, job_id, fence, **fields, max_attempts=settings.max_attempts, backoff_s=settings.backoff_s
        )
    return JobState.FAILED if leases.settle(s, job_id, fence, state=JobState.FAILED, **fields) else None


def _let_go(lease: Lease, act: Any) -> None:
    if not lease.write(act, last=True):
        raise LeaseLostError(lease.job.id)


def _publish(s: Session, attempt: Attempt, results: list[tuple[Exported, list[FileEntry]]]) -> str:
    """Publish the results and return a message that names them. A merged model's base is its adapter."""
    lease = attempt.lease
    name = lease.job.spec.get("suffix") or lease.job.id
    ids: dict[str, str] = {}
    names: list[str] = []
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
        names.append(f"{artifact.kind} {artifact.name}/{artifact.version}")
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} ready"
