"""The fleet: the workers, and the queue of jobs for them."""

from api.auth import Caller
from api.deps import Service
from api.fleet.schemas import QueueObject, WaitingJob, WorkerList, WorkerObject
from api.jobs.waiting import waits
from db import queue, workers
from db.models import Worker
from db.workers import Fleet


def workers_of(service: Service, caller: Caller) -> WorkerList:
    with service.database.read() as session:
        fleet = workers.look(session)
    return WorkerList(data=[_worker(worker, fleet, caller) for worker in fleet.workers])


def queue_of(service: Service, caller: Caller, limit: int) -> QueueObject:
    with service.database.read() as session:
        fleet = workers.look(session)
        rows = queue.of_project(session, caller.project_id, limit)
        waiting = [
            WaitingJob(
                id=job.id,
                kind=job.kind,
                priority=job.priority,
                queue_position=wait.position,
                waiting_reason=wait.reason,
                estimated_start_at=wait.starts_at,
            )
            for job, wait in zip(rows, waits(session, rows), strict=True)
            if wait.position is not None and wait.reason is not None
        ]
        return QueueObject(
            waiting=queue.length(session),
            running=len(fleet.runs),
            workers_alive=len(fleet.alive()),
            workers_free=fleet.free(),
            data=waiting,
        )


def _worker(worker: Worker, fleet: Fleet, caller: Caller) -> WorkerObject:
    own = {run.job_id for run in fleet.runs if run.project_id == caller.project_id}
    held = [run.job_id for run in fleet.runs if run.worker == worker.name]
    mine = [job_id for job_id in (*held, fleet.helping.get(worker.name)) if job_id in own]
    return WorkerObject(
        id=worker.name,
        host=worker.host,
        pid=worker.pid,
        device=worker.device,
        memory_bytes=worker.memory_bytes,
        labels=worker.labels or {},
        gpus=worker.gpus or 0,
        state=fleet.state_of(worker),
        job_id=mine[0] if mine else None,
        started_at=worker.started_at,
        heartbeat_at=worker.heartbeat_at,
    )
