"""The load: small jobs of every kind, submitted over HTTP for as long as the campaign lasts.

Some are cancelled, some paused and resumed at random instants, some are urgent, so that others make way for them,
and one kind is trained by two processes.
"""

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from tests.chaos.service import Service
from tests.integration.workers.workplace import TEXT

ENDED = ("succeeded", "failed", "cancelled")
_WORDS = ("red", "blue", "small", "large", "old", "new")
_PAUSE_S = 0.1
_CUT_AFTER_BYTES = 200_000
_CANCELLED_SHARE, _PAUSED_SHARE, _URGENT_SHARE = 0.05, 0.2, 0.1
_PAUSE_AFTER_S, _RESUME_AFTER_S = (0.0, 8.0), (0.0, 4.0)
_URGENT = 10

_TRAINING = {"max_length": 64, "per_device_train_batch_size": 2, "max_steps": 30, "learning_rate": 0.001}
_SAVING = {"save_steps": 5, "save_total_limit": 2}


class Accepted(NamedTuple):
    """A job that the API has answered 201 for."""

    job_id: str
    spec: str
    cancelled: bool


class Order(NamedTuple):
    """What is to be asked of a job at a time of the monotonic clock."""

    at: float
    job_id: str
    verb: str


def rows(count: int = 60) -> list[dict[str, str]]:
    draw = random.Random(7)
    return [
        {"prompt": f"which one is {draw.choice(_WORDS)}", "completion": f"the {draw.choice(_WORDS)} one"}
        for _ in range(count)
    ]


def pairs() -> list[dict[str, str]]:
    return [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": f"a {_WORDS[n % 6]} thing"}
        for n, row in enumerate(rows())
    ]


def specs(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """Uploads the data; what is asked for, by a name. The first makes the model that the others start from."""
    text = upload(client, "text.txt", TEXT, "pretrain")
    completions = upload(client, "rows.jsonl", _lines(rows()), "fine-tune")
    preferences = upload(client, "pairs.jsonl", _lines(pairs()), "fine-tune")
    heldout = upload(client, "heldout.jsonl", _lines(rows(24)), "evals")
    shape = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    training = {"hyperparameters": _TRAINING, "checkpoints": _SAVING}
    tuning = {"kind": "sft", "model": "base", "training_file": completions, **training}
    of_two = {"hyperparameters": _TRAINING | {"max_steps": 12}, "checkpoints": _SAVING | {"save_steps": 3}}
    return {
        "pretrain": {"kind": "pretrain", "model": shape, "tokenizer": {"vocab_size": 320}, "training_file": text}
        | training,
        "sft full": tuning | {"tuning": {"method": "full"}},
        "sft lora": tuning | {"tuning": {"method": "lora", "r": 4, "lora_dropout": 0.1}},
        "sft of two": tuning | of_two | {"tuning": {"method": "full"}, "resources": {"nproc_per_node": 2}},
        "sft qlora": tuning | {"tuning": {"method": "qlora", "r": 4}},
        "dpo": tuning | {"kind": "dpo", "training_file": preferences, "tuning": {"method": "lora", "r": 4}},
        "eval": {"kind": "eval", "model": "base", "eval_file": heldout},
    }


def upload(client: httpx.Client, name: str, text: str, purpose: str) -> str:
    answer = client.post("/v1/files", data={"purpose": purpose}, files={"file": (name, text.encode())})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def cut_upload(service: Service) -> None:
    """An upload whose connection goes away in its middle."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {service.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: {2 * _CUT_AFTER_BYTES}\r\n\r\n"
        '--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\npretrain\r\n'
        '--cut\r\nContent-Disposition: form-data; name="file"; filename="cut.txt"\r\n\r\n'
    )
    try:
        with socket.create_connection((host, int(port)), timeout=2) as connection:
            connection.sendall(head.encode() + b"x " * (_CUT_AFTER_BYTES // 2))
    except OSError:
        return  # the API is away just now: that cut the upload too


class Load(threading.Thread):
    """Keeps a number of jobs on their way until it is told to stop, then sees the last ones to their end."""

    def __init__(self, service: Service, wanted: dict[str, dict[str, Any]], seed: int, at_once: int) -> None:
        super().__init__(name="load", daemon=True)
        self.accepted: list[Accepted] = []
        self.open: set[str] = set()
        self.furthest: dict[str, int] = {}
        """By job: the latest step that was seen of it."""
        self.asked: Counter[str] = Counter()
        """How many jobs were paused, resumed, and asked for with urgency."""
        self._orders: list[Order] = []
        self._service = service
        self._wanted = wanted
        self._rng = random.Random(seed)
        self._at_once = at_once
        self._stopping = threading.Event()
        self.ended = threading.Event()
        self.error: AssertionError | None = None

    def count_ended(self) -> int:
        return len(self.accepted) - len(self.open)

    def stop(self) -> None:
        """Submit no more."""
        self._stopping.set()

    def run(self) -> None:
        try:
            self._run()
        except AssertionError as error:  # the API answered what it must not: told with the rest
            self.error = error

    def _run(self) -> None:
        with self._service.client() as client:
            while True:
                while len(self.open) >= self._at_once or self._stopping.is_set():
                    self._look(client)
                    self._give_orders(client)
                    if self._stopping.is_set() and not self.open:
                        self.ended.set()
                        return
                    time.sleep(_PAUSE_S)
                self._submit(client)

    def _submit(self, client: httpx.Client) -> None:
        name = self._rng.choice(list(self._wanted))
        spec, fate = self._wanted[name], self._rng.random()
        if self._rng.random() < _URGENT_SHARE:
            spec = spec | {"resources": spec.get("resources", {}) | {"priority": _URGENT}}
            self.asked["urgent"] += 1
        job = insist(lambda: client.post("/v1/jobs", json=spec), self._stopping.is_set)
        if job is None:
            return
        self.accepted.append(Accepted(job["id"], name, fate < _CANCELLED_SHARE))
        self.open.add(job["id"])
        if fate < _CANCELLED_SHARE:
            self._order("cancel", job["id"], _PAUSE_AFTER_S)
        elif fate < _CANCELLED_SHARE + _PAUSED_SHARE:
            self._order("pause", job["id"], _PAUSE_AFTER_S)

    def _order(self, verb: str, job_id: str, span_s: tuple[float, float]) -> None:
        self._orders.append(Order(time.monotonic() + self._rng.uniform(*span_s), job_id, verb))

    def _give_orders(self, client: httpx.Client) -> None:
        """Ask what is due; a job that is paused is resumed in time."""
        now = time.monotonic()
        due = [order for order in self._orders if order.at <= now]
        self._orders = [order for order in self._orders if order.at > now]
        for order in due:
            path = f"/v1/jobs/{order.job_id}/{order.verb}"
            if insist(lambda path=path: client.post(path), lambda: False) is not None:
                self.asked[order.verb] += 1
                if order.verb == "pause":
                    self._order("resume", order.job_id, _RESUME_AFTER_S)

    def _look(self, client: httpx.Client) -> None:
        for job_id in list(self.open):
            job = insist(lambda job_id=job_id: client.get(f"/v1/jobs/{job_id}"), lambda: False)
            assert job is not None
            self.furthest[job_id] = max(self.furthest.get(job_id, 0), job["step"] or 0)
            if job["status"] in ENDED:
                self.open.discard(job_id)


def insist(ask: Callable[[], httpx.Response], give_up: Callable[[], bool]) -> dict[str, Any] | None:
    """Ask until there is an answer that is not a 5xx; None when it is given up, or answered by a 4xx.

    A request whose answer was lost is sent again: it may count twice, so what it makes is nobody's.
    """
    while not give_up():
        try:
            answer = ask()
        except httpx.TransportError:
            time.sleep(_PAUSE_S)
            continue
        if answer.is_success:
            return answer.json()
        if answer.is_client_error:
            assert answer.status_code == httpx.codes.CONFLICT, answer.text
            return None
        assert answer.status_code in {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.INSUFFICIENT_STORAGE}, answer.text
        assert "retry-after" in answer.headers, answer.text
        time.sleep(_PAUSE_S)
    return None


def _lines(data: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in data)
