"""Creates tiny real jobs."""

import time
from typing import Any, Protocol

import httpx


class Served(Protocol):
    """A running service, with or without workers."""

    def http(self) -> httpx.Client: ...


TEXT = "".join(f"To be, or not to be: that is question {number}.\n" for number in range(400))
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
ENDED = {"succeeded", "failed", "cancelled"}


def text_file(service: Served) -> str:
    with service.http() as http:
        files = {"file": ("text.txt", TEXT.encode())}
        return http.post("/v1/files", data={"purpose": "pretrain"}, files=files).json()["id"]


def make_job(service: Served, suffix: str, *, steps: int = 30, **changes: Any) -> str:
    """Create a job of a few seconds through the API; return its id."""
    spec = {
        "kind": "pretrain",
        "training_file": text_file(service),
        "suffix": suffix,
        "model": TINY,
        "tokenizer": {"type": "byte"},
        "hyperparameters": {"max_steps": steps, "max_length": 32, "per_device_train_batch_size": 4},
    }
    with service.http() as http:
        fields = {name: value for name, value in (spec | changes).items() if value is not None}
        answer = http.post("/v1/jobs", json=fields)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


def show_job(service: Served, job_id: str) -> dict:
    with service.http() as http:
        return http.get(f"/v1/jobs/{job_id}").json()


def wait_ended(service: Served, job_id: str, timeout_s: float = 90) -> dict:
    deadline = time.monotonic() + timeout_s
    while (job := show_job(service, job_id))["status"] not in ENDED:
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    return job
