"""The fleet as the API shows it: workers, and the queue for them."""

from typing import Literal

from pydantic import BaseModel

from api.answers import Object


class WorkerObject(Object):
    """A process that runs one job at a time. A worker that misses two heartbeats is lost.

    `job_id` is the job that it runs, if that belongs to this project. `memory_bytes` is the memory of all its GPUs, or of
    the machine if it has none. `labels` are what jobs may require (`resources.labels`).
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
    """A waiting job of this project; its position counts all projects, which share the workers."""

    object: Literal["waiting_job"] = "waiting_job"
    kind: str
    priority: int
    queue_position: int
    waiting_reason: str
    estimated_start_at: float | None


class QueueObject(BaseModel):
    """The queue. The numbers count all projects; `data` has this project's waiting jobs, the next one first."""

    object: Literal["queue"] = "queue"
    waiting: int
    running: int
    workers_alive: int
    workers_free: int
    data: list[WaitingJob]
