"""A job that two machines carry out together, one of which is killed or cut off: the result is the undisturbed run's.

`make machines` strikes both machines in each of the ways, and cuts them off for a minute.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

import httpx
import pytest

from api.bootstrap import PROJECT, bootstrap
from api.settings import ApiSettings
from db import projects
from db.settings import StorageSettings
from tests import machines
from tests.chaos.load import rows, upload
from tests.integration.workers.workplace import ENDED, TEXT, Workplace, engines, tiny_pretrain, wait_until
from tests.machines import Machine, Network
from tests.servers import S3, Postgres, Valkey, free_port

_STEPS = 400
_SAVE_STEPS = 20
_STRUCK_AT = {"a": 50, "b": 200}
"""At which step which machine is struck. Both in one job: most of what a job takes here is that its trainers start."""
_LEASE_S = 6.0
_CUT_S = float(os.environ.get("TRAINYARD_CUT_S", "20"))
"""How long a machine is cut off: longer than its lease, which it loses by that."""
_READY_WITHIN_S = 60.0
_DONE_WITHIN_S = 180.0 + 2 * _CUT_S
"""A connection that was silent for so long tries again about so long after its link is mended (TCP backs off)."""
_ORPHANS_GONE_WITHIN_S = 5.0
_SETTINGS: dict[str, Any] = {"lease_s": _LEASE_S, "heartbeat_s": 1.0, "backoff_s": 0.0, "warm_engines": 0}

pytestmark = pytest.mark.timeout(400 + 8 * _CUT_S)


class Run(NamedTuple):
    """What a job came to: every figure of its training, and the bytes of its weights by the file they lie in."""

    losses: dict[int, float | None]
    weights: dict[str, str]


class Fleet:
    """A worker on each of two machines, and the service that they work for; it runs beside them and is never cut off."""

    def __init__(self, network: Network, home: Path, postgres: Postgres, broker: Valkey, bucket: S3) -> None:
        self.machines = {name: network.machine(name) for name in ("a", "b")}
        self.broker = broker
        self.blobs: dict[str, Any] = bucket.settings("machines")
        self.place = Workplace(home, postgres.create(), **_SETTINGS)
        storage = StorageSettings(home=home, database_url=self.place.database.url, **self.blobs)
        bootstrap(ApiSettings(), storage, home / "key")
        with self.place.database.read() as s:
            project = projects.by_name(s, PROJECT)
        assert project is not None
        self.place.project_id = project.id
        self.port = free_port()
        key = {"Authorization": f"Bearer {(home / 'key').read_text().strip()}"}
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=key, timeout=30, trust_env=False)
        self.workers = {name: self._work_on(machine) for name, machine in self.machines.items()}

    def await_ready(self) -> None:
        wait_until(self._answers, "the API answers", _READY_WITHIN_S)
        text = upload(self.api, "text.txt", TEXT, "pretrain")
        base = tiny_pretrain(text, suffix="base", resources={"device": "cpu"})
        base["model"]["hidden_size"] = 64
        assert self.place.wait(self._post(base)).state == "succeeded"
        answers = "".join(f"{json.dumps(row)}\n" for row in rows())
        self.rows = upload(self.api, "rows.jsonl", answers, "fine-tune")

    def tend(self) -> None:
        """Start the workers that are not there."""
        for name, worker in self.workers.items():
            if worker.poll() is not None:
                self.workers[name] = self._work_on(self.machines[name])

    def submit(self, nodes: int) -> str:
        hyper = {"max_length": 64, "per_device_train_batch_size": 2, "max_steps": _STEPS, "precision": "fp32"}
        asked: dict[str, Any] = {"kind": "sft", "model": "base", "training_file": self.rows, "hyperparameters": hyper}
        asked["tuning"] = {"method": "lora", "r": 4, "lora_dropout": 0.1}
        asked["checkpoints"] = {"save_steps": _SAVE_STEPS}
        return self._post(asked | {"resources": {"device": "cpu", "num_nodes": nodes}})

    def _post(self, asked: dict[str, Any]) -> str:
        answer = self.api.post("/v1/jobs", json=asked)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def await_middle(self, job_id: str, step: int) -> None:
        """Until the job trains on both machines, has come to that step, and has a checkpoint to go on from."""
        try:
            self.place.wait_for_step(job_id, step, _DONE_WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.place.worker_states()}\n{self.logs()}") from error
        wait_until(lambda: bool(self.place.artifacts(job_id, "checkpoint")), "a checkpoint is stored")
        assert self.place.job(job_id).state == "running", self.logs()
        assert all(map(self.trainers, self.workers))

    def outcome(self, job_id: str) -> Run:
        """What the job comes to, and that nothing of it is left on a machine then."""
        job = self.place.wait(job_id, timeout_s=_DONE_WITHIN_S)
        assert job.state == "succeeded", f"{job.error_message}\n{self.logs()}"
        wait_until(lambda: not any(map(self.trainers, self.workers)), "no trainer", _ORPHANS_GONE_WITHIN_S)
        (adapter,) = self.place.artifacts(job_id, "adapter")
        files = self.place.digests(adapter)
        weights = {path: files[path] for path in files if path.endswith(".safetensors")}
        assert weights
        return Run(self.place.losses(job_id), weights)

    def trainers(self, name: str) -> list[int]:
        """The engine processes on a machine; the last is one that trains, if others only start it."""
        return engines(self.workers[name].pid)

    def logs(self) -> str:
        """The ends of the workers' logs, for a failed assertion."""
        return "\n".join(f"--- {name}\n{of.log.read_text()[-2000:]}" for name, of in self.machines.items())

    def _work_on(self, machine: Machine) -> Popen[bytes]:
        disk = {"home": machine.folder, "blobs_dir": machine.folder / "blobs", "desk_socket": machine.folder / "desk"}
        environment = self.place.environment(self.broker.url, worker_name=machine.name, **disk, **self.blobs)
        return machine.start([sys.executable, "-m", "workers"], environment)

    def _answers(self) -> bool:
        try:
            return self.api.get("/readyz").is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if reason := machines.why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        postgres = stack.enter_context(closing(Postgres(host=network.address)))
        broker = stack.enter_context(closing(Valkey(network.address)))
        bucket = stack.enter_context(closing(S3(network.address)))
        fleet = Fleet(network, tmp_path_factory.mktemp("service"), postgres, broker, bucket)
        stack.callback(fleet.place.close)
        stack.enter_context(fleet.api)
        stack.enter_context(fleet.place.process("api", broker.url, port=fleet.port, **fleet.blobs))
        stack.enter_context(fleet.place.process("workers.recover", broker.url, **fleet.blobs))
        fleet.await_ready()
        for machine in fleet.machines.values():
            stack.callback(machine.kill)  # before what their workers ask for goes away
        yield fleet


@pytest.fixture(scope="module")
def undisturbed(fleet: Fleet) -> Run:
    job_id = fleet.submit(2)
    wait_until(lambda: all(map(fleet.trainers, fleet.workers)), "a trainer on each machine", _DONE_WITHIN_S)
    return fleet.outcome(job_id)


@pytest.fixture
def job_id(fleet: Fleet, undisturbed: Run) -> Iterator[str]:
    """A job of both machines; what a failed test leaves of it would be in the next one's way."""
    job_id = fleet.submit(2)
    yield job_id
    fleet.tend()
    if fleet.place.job(job_id).state not in ENDED:
        fleet.api.post(f"/v1/jobs/{job_id}/cancel")
        fleet.place.wait(job_id)


def reaches(machine: Machine, address: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(({address!r}, {port}), timeout=1)"
    return machine.start([sys.executable, "-c", code]).wait(10) == 0


def test_a_machine_that_is_cut_off_reaches_nobody_until_its_link_is_mended(fleet: Fleet) -> None:
    a, b = fleet.machines.values()
    broker = (fleet.broker.host, fleet.broker.port)
    peer = (b.address, 8000)
    with b.start([sys.executable, "-m", "http.server", "--bind", b.address, "8000"]) as server:
        try:
            wait_until(lambda: reaches(a, *peer), "one machine reaches the other")
            b.cut()
            assert [reaches(a, *peer), reaches(b, *broker), reaches(a, *broker)] == [False, False, True]
            b.mend()
            wait_until(lambda: reaches(a, *peer) and reaches(b, *broker), "the link is there again")
        finally:
            b.mend()
            server.kill()


def test_two_machines_train_the_model_that_one_trains(fleet: Fleet, undisturbed: Run) -> None:
    alone = fleet.outcome(fleet.submit(1))
    assert undisturbed.losses == pytest.approx(alone.losses, rel=1e-6)


def kill_worker(fleet: Fleet, name: str) -> None:
    fleet.workers[name].kill()
    wait_until(lambda: not fleet.machines[name].processes(), "no orphans", _ORPHANS_GONE_WITHIN_S)
    fleet.tend()


def kill_trainer(fleet: Fleet, name: str) -> None:
    os.kill(fleet.trainers(name)[-1], signal.SIGKILL)


def cut_off(fleet: Fleet, name: str) -> None:
    fleet.machines[name].cut()
    mend_at = time.monotonic() + _CUT_S
    try:
        wait_until(lambda: not fleet.trainers(name), "without its lease nobody trains there", _CUT_S)
        time.sleep(max(0.0, mend_at - time.monotonic()))
    finally:
        fleet.machines[name].mend()


Strike = Callable[[Fleet, str], None]
STRIKES: dict[str, tuple[Strike, Strike]] = {"one is killed, then the other cut off": (kill_worker, cut_off)}
if os.environ.get("TRAINYARD_STRIKES") == "all":
    STRIKES = {strike.__name__: (strike, strike) for strike in (kill_worker, kill_trainer, cut_off)}


@pytest.mark.parametrize("strikes", STRIKES.values(), ids=STRIKES)
def test_a_job_goes_on_when_one_machine_is_struck_and_then_the_other(
    fleet: Fleet, job_id: str, undisturbed: Run, strikes: tuple[Strike, Strike]
) -> None:
    for (name, step), strike in zip(_STRUCK_AT.items(), strikes, strict=True):
        fleet.await_middle(job_id, step)
        strike(fleet, name)
    assert fleet.outcome(job_id) == undisturbed
    _, *others = fleet.place.attempts(job_id)
    assert len(others) >= len(_STRUCK_AT)
    assert (others[-1].resume_step or 0) > _STRUCK_AT["a"], "it went on from its last checkpoint"
