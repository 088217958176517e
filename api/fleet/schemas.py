"""The fleet as the API shows it: workers, and the queue for them."""

from typing import Literal

from pydantic import BaseModel

from api.answers import Object


class WorkerObject(Object):
    """A place where one job runs at a time. A worker not heard of for two of its heartbeats is lost.

    `job_id` is the job that it runs, where that is of this project. `memory_bytes` is that of all its GPUs, or of the
    machine where it has none. `labels` are what jobs may ask for (`resources.labels`).
    """

    object: Literal["worker"] = "worker"
    host: str
    pid: int
    device: str
    memory_bytes: int
    labels: dict[str, str]
    gpus: int
    state: Literal["idle", "busy", "lost", "stopped"]
    job_id: str | None
    started_at: float
    heartbeat_at: float


class WorkerList(BaseModel):
    """All workers, by name."""

    object: Literal["list"] = "list"
    data: list[WorkerObject]


class WaitingJob(Object):
    """A job of this project that waits; its position is over all projects, for they share the workers."""

    object: Literal["waiting_job"] = "waiting_job"
    kind: str
    priority: int
    queue_position: int
    waiting_reason: str
    estimated_start_at: float | None


class QueueObject(BaseModel):
    """What waits and what runs. The numbers are over all projects, the jobs in `data` this project's, next one first."""

    object: Literal["queue"] = "queue"
    waiting: int
    running: int
    workers_alive: int
    workers_free: int
    data: list[WaitingJob]
