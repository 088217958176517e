"""The operator's choices for workers, TRAINYARD_... in the environment. `python -m workers.settings` prints them."""

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
    """Where the broker is, and how patient a worker is."""

    model_config = SettingsConfigDict(env_parse_none_str="none")

    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0", description="Redis or Valkey; the API leaves there what workers take."
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Unique among the workers of one database: a worker that starts frees what its name held before.",
    )
    worker_address: IPv4Address | None = Field(
        default=None,
        description="Where the processes of other workers reach those of this one, for jobs that several carry out "
        "together. Left out: the address from which it reaches the broker.",
    )
    worker_labels: Annotated[Labels, NoDecode] = Field(
        default={},
        description="What jobs may ask of a worker by name: gpu=h100,zone=a. device=cuda or device=cpu is there already.",
    )
    worker_concurrency: int = Field(
        default=1, ge=1, le=64, description="Jobs that run at once on this worker, and share its memory."
    )
    warm_engines: int = Field(
        default=1,
        ge=0,
        le=1,
        description="1 keeps an engine with its imports done beside each worker process; 0 does not.",
    )
    lease_s: float = Field(default=15.0, gt=0, description="A worker that is not heard of for so long loses its job.")
    heartbeat_s: float = Field(default=3.0, gt=0, description="How often a worker is heard of.")
    max_attempts: int = Field(
        default=5, ge=1, description="A job that fails so often in a row, with no newer checkpoint between, has failed."
    )
    backoff_s: float = Field(
        default=1.0, ge=0, description="Before the first retry; doubled with each failure in a row."
    )
    preempt_after_s: float | None = Field(
        default=10.0,
        ge=0,
        description="A job that has waited this long while every worker is busy has one of lower priority make way; "
        "none: it waits on.",
    )
    redispatch_after_s: float = Field(
        default=5.0, gt=0, description="A message that nobody acted on is sent again after this."
    )
    kill_grace_s: float = Field(default=10.0, ge=0, description="From asking an engine to cancel to killing it.")
    stop_grace_s: float = Field(
        default=18.0, ge=0, description="From asking an engine to save, since its worker is to stop, to killing it."
    )
    save_grace_s: float = Field(
        default=600.0, ge=0, description="The same where its job is to pause or to make way, and its worker stays."
    )
    price_per_hour: float | None = Field(
        default=None, ge=0, description="Of a worker's machine, as for the API: budgets of money hold jobs by it."
    )
    ballast_bytes: int = Field(
        default=64 << 20, ge=0, description="Taken in good time, and given up by the reaper when the disk is full."
    )
    space_wait_s: float = Field(
        default=60.0, ge=0, description="A job whose worker's disk is full is tried again after this."
    )
    blobs_wait_s: float = Field(
        default=10.0, ge=0, description="A job that found no blob store is tried again after this."
    )
    keep_runs_s: float = Field(default=3600.0, ge=0, description="Run directories of ended jobs are kept this long.")
    desk_idle_s: float = Field(
        default=600.0, ge=1, description="An engine that answers questions is ended when none came for this long."
    )
    desk_answer_s: float = Field(
        default=600.0,
        ge=1,
        description="A question without a whole answer after this long, its wait included, is ended.",
    )
    cache_bytes: int = Field(
        default=16 * 2**30, ge=0, description="Tokenized data that is kept for later jobs; the oldest used goes first."
    )

    @field_validator("worker_labels", mode="before")
    @classmethod
    def _labels_by_name(cls, given: Any) -> Any:
        """name=value,name=value, as the environment has it."""
        if not isinstance(given, str):
            return given
        pairs = [pair.partition("=") for pair in given.split(",") if pair]
        if any(not equals or not value for _, equals, value in pairs):
            raise ValueError(f"{given!r} is not of the form gpu=h100,zone=a")
        return {name: value for name, _, value in pairs}

    @property
    def runs_dir(self) -> Path:
        """One folder a job, in it one an attempt."""
        return self.home / "runs"

    @property
    def cache_dir(self) -> Path:
        """What engines keep by content, for the next jobs of this worker."""
        return self.home / "cache"

    def run_dir(self, job_id: str, attempt: int, node_rank: int = 0) -> Path:
        """`node_rank`: the worker's among those of the attempt, of which two may share a disk."""
        return self.runs_dir / job_id / (f"{attempt}.{node_rank}" if node_rank else str(attempt))


if __name__ == "__main__":
    sys.stdout.write(as_variables(WorkerSettings, WebhookSettings, TraceSettings))
