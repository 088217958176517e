"""Settings of workers, reaper and desk: TRAINYARD_... in the environment. `python -m workers.settings` prints them."""

import socket
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from db.settings import StorageSettings, WebhookSettings, as_variables
from db.traces import TraceSettings
from engine.parts.resources import Labels


class WorkerSettings(StorageSettings):
    """Settings of the broker, the workers, the reaper and the desk."""

    model_config = SettingsConfigDict(env_parse_none_str="none")

    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="URL of the broker, Redis or Valkey, over which workers get their messages.",
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Name of this worker, unique in the database: at its start it frees what its name held before.",
    )
    worker_address: IPv4Address | None = Field(
        default=None,
        description="Address at which other workers reach the processes of this one, for jobs on several workers. "
        "Default: the address from which it reaches the broker.",
    )
    worker_labels: Annotated[Labels, NoDecode] = Field(
        default={},
        description="Labels that jobs may ask for, as gpu=h100,zone=a. device=cuda or device=cpu is added.",
    )
    worker_concurrency: int = Field(
        default=1, ge=1, le=64, description="Number of jobs that this worker runs at once; they share its memory."
    )
    warm_engines: int = Field(
        default=1,
        ge=0,
        le=1,
        description="Number of engines, 0 or 1, that each worker process keeps started for its next job.",
    )
    lease_s: float = Field(
        default=15.0, gt=0, description="Seconds without a heartbeat after which a worker loses its job."
    )
    heartbeat_s: float = Field(default=3.0, gt=0, description="Seconds between the heartbeats of a worker.")
    max_attempts: int = Field(
        default=5,
        ge=1,
        description="Number of failed attempts in a row, with no newer checkpoint in between, after which a job has "
        "failed.",
    )
    backoff_s: float = Field(
        default=1.0, ge=0, description="Seconds before the first retry of a job; doubled with each failure in a row."
    )
    preempt_after_s: float | None = Field(
        default=10.0,
        ge=0,
        description="Seconds that a job waits while every worker is busy before one of lower priority makes way; "
        "none: never.",
    )
    redispatch_after_s: float = Field(
        default=5.0,
        gt=0,
        description="Seconds after which the message of a job that no worker has claimed is sent again.",
    )
    kill_grace_s: float = Field(
        default=10.0, ge=0, description="Seconds that the engine of a cancelled job has to end before it is killed."
    )
    stop_grace_s: float = Field(
        default=18.0,
        ge=0,
        description="Seconds that an engine has to save and end, when its worker is stopped, before it is killed.",
    )
    save_grace_s: float = Field(
        default=600.0,
        ge=0,
        description="Seconds that an engine has to save and end, when its job pauses or makes way, before it is killed.",
    )
    price_per_hour: float | None = Field(
        default=None,
        ge=0,
        description="Price of an hour of a worker, the same as for the API, by which budgets of money pause jobs.",
    )
    ballast_bytes: int = Field(
        default=64 << 20,
        ge=0,
        description="Size of the file that the reaper keeps on the disk, and deletes when the disk is full.",
    )
    space_wait_s: float = Field(
        default=60.0,
        ge=0,
        description="Seconds before a job is tried again after the disk of its worker was full; the worker takes no "
        "other job meanwhile.",
    )
    blobs_wait_s: float = Field(
        default=10.0,
        ge=0,
        description="Seconds before a job is tried again after its worker could not reach the blob store; the worker "
        "takes no other job meanwhile.",
    )
    keep_runs_s: float = Field(
        default=3600.0, ge=0, description="Seconds that the run directory of an ended job is kept."
    )
    desk_idle_s: float = Field(
        default=600.0, ge=1, description="Seconds without a question after which a resident engine is ended."
    )
    desk_answer_s: float = Field(
        default=600.0,
        ge=1,
        description="Seconds after which an answer of the desk is ended, its waiting time included.",
    )
    cache_bytes: int = Field(
        default=16 * 2**30,
        ge=0,
        description="Size of the cache of tokenized data and reference scores for later jobs; the least recently used "
        "go first.",
    )

    @field_validator("worker_labels", mode="before")
    @classmethod
    def _labels_by_name(cls, given: Any) -> Any:
        """Read name=value,name=value, the form in which the environment has labels."""
        if not isinstance(given, str):
            return given
        pairs = [pair.partition("=") for pair in given.split(",") if pair]
        if any(not equals or not value for _, equals, value in pairs):
            raise ValueError(f"{given!r} is not of the form gpu=h100,zone=a")
        return {name: value for name, _, value in pairs}

    @property
    def runs_dir(self) -> Path:
        """The folder of the run directories: one folder for each job, in it one for each attempt."""
        return self.home / "runs"

    @property
    def cache_dir(self) -> Path:
        """The folder in which engines cache data by content, for the next jobs of this worker."""
        return self.home / "cache"

    def run_dir(self, job_id: str, attempt: int, node_rank: int = 0) -> Path:
        """Return the run directory of an attempt, for each rank of a gang, since two workers may share a disk."""
        return self.runs_dir / job_id / (f"{attempt}.{node_rank}" if node_rank else str(attempt))


if __name__ == "__main__":
    sys.stdout.write(as_variables(WorkerSettings, WebhookSettings, TraceSettings))
