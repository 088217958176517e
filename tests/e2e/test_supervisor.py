"""`trainyard up`, `down` and `status` with real processes."""

import json
import os
import shutil
import signal
import stat
import sys
from pathlib import Path

import pytest

from tests.e2e.service import Service, environment_of, processes_of, run_trainyard, start, wait_until

PROCESSES = {"supervisor", "valkey", "api", "worker", "reaper", "desk"}
QUEUED_JOB = {"kind": "pretrain", "training_file": "", "hyperparameters": {"max_steps": 1}}


def all_run(service: Service) -> bool:
    rows = json.loads(service.trainyard("status", "--json").stdout)["processes"]
    return {row["name"] for row in rows if row["pid"]} == PROCESSES


def test_status_shows_every_process_with_its_pid(service: Service) -> None:
    wait_until(lambda: all_run(service), "all six processes run")


def test_status_shows_the_worker_and_what_it_runs_on(service: Service) -> None:
    def told() -> list[tuple[str, str]]:
        rows = json.loads(service.trainyard("status", "--json").stdout)["workers"]
        return [(row["state"], row["device"]) for row in rows]

    wait_until(lambda: [state for state, _ in told()] == ["idle"], "the worker is idle")
    assert told()[0][1]


def test_the_doctor_finds_nothing_amiss(service: Service) -> None:
    looks = service.trainyard("doctor").stdout.splitlines()
    assert all(look.startswith("ok ") for look in looks), looks


def test_the_key_and_the_secret_are_the_owners_alone(service: Service) -> None:
    for name in ("credentials", "secret", "up.json", "valkey/valkey.conf"):
        assert stat.S_IMODE((service.home / name).stat().st_mode) == 0o600, name


def test_the_service_listens_on_loopback_only(service: Service) -> None:
    pids = [pid for pid in processes_of(service.home) if pid != os.getpid()]
    assert listening_addresses(pids) == {"0100007F"}


def listening_addresses(pids: list[int]) -> set[str]:
    """The local addresses (hex, as the kernel writes them) that these processes listen on."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(str(descriptor.readlink()))
            except FileNotFoundError:
                continue
    lines = [line for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    fields = [line.split() for line in lines]
    return {row[1].split(":")[0] for row in fields if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_the_api_process_never_loads_torch(service: Service) -> None:
    maps = Path(f"/proc/{service.process_id('api')}/maps").read_text()
    assert "libtorch" not in maps
    assert "site-packages/torch/" not in maps


def test_a_second_up_on_the_same_folder_is_refused(service: Service) -> None:
    refused = service.trainyard("up", "--port", "0", expect=1)
    assert f"already runs from {service.home} (pid {service.process.pid})" in refused.stderr


def test_the_wrong_key_ends_with_3(service: Service) -> None:
    environment = {**service.environment, "TRAINYARD_API_KEY": "ty-" + "x" * 43}
    assert run_trainyard(environment, "jobs", "ls").returncode == 3


def test_an_unreachable_service_ends_with_69_and_says_what_to_type(service: Service) -> None:
    environment = {**service.environment, "TRAINYARD_URL": "http://127.0.0.1:9"}
    done = run_trainyard(environment, "jobs", "ls")
    assert done.returncode == 69
    assert "`trainyard up` starts it here" in done.stderr


def test_a_killed_api_is_started_again(own_service: Service) -> None:
    killed = own_service.process_id("api")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: own_service.process_id("api") not in (None, killed), "the API restarted")
    wait_until(lambda: answers(own_service), "the API answers again")
    restarts = {row["name"]: row["restarts"] for row in own_service.state()["processes"]}
    assert restarts["api"] == 1
    assert restarts["valkey"] == 0


def answers(service: Service) -> bool:
    return run_trainyard(service.environment, "jobs", "ls").returncode == 0


def test_down_leaves_no_process(own_service: Service) -> None:
    wait_until(lambda: all_run(own_service), "all six processes run")
    own_service.trainyard("down")
    assert own_service.process.wait(5) == 0
    assert processes_of(own_service.home) == {}
    own_service.trainyard("status", expect=69)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_supervisor_leaves_no_process(own_service: Service) -> None:
    wait_until(lambda: all_run(own_service), "all six processes run")
    own_service.process.kill()
    own_service.process.wait()
    wait_until(lambda: not processes_of(own_service.home), f"all gone: {processes_of(own_service.home)}", 10)


def test_a_folder_that_was_stopped_comes_up_again_and_takes_a_job(tmp_path: Path) -> None:
    home = tmp_path / "home"
    start(home, warm_engines="0").stop()
    again = start(home)
    try:
        text = tmp_path / "text.txt"
        text.write_text("To be, or not to be, that is the question.\n" * 200)
        uploaded = again.trainyard("files", "upload", "-q", text).stdout.strip()
        spec = tmp_path / "job.json"
        spec.write_text(json.dumps({**QUEUED_JOB, "training_file": uploaded}))
        assert again.trainyard("jobs", "create", "-q", "-f", spec).stdout.startswith("job-")
    finally:
        again.stop()


def test_a_service_is_backed_up_while_it_runs_and_restored_elsewhere(service: Service, tmp_path: Path) -> None:
    service.trainyard("backup", tmp_path / "backup")
    elsewhere = environment_of(tmp_path / "elsewhere")
    restored = run_trainyard(elsewhere, "restore", tmp_path / "backup")
    assert restored.returncode == 0, restored.stderr
    assert (tmp_path / "elsewhere/trainyard.db").exists()
    again = run_trainyard(elsewhere, "restore", tmp_path / "backup")
    assert again.returncode == 1
    assert "not empty" in again.stderr


def test_a_folder_that_lost_its_database_is_not_started_nor_a_database_that_lost_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    service = start(home, warm_engines="0")
    service.stop()
    for path in home.glob("trainyard.db*"):
        path.rename(tmp_path / path.name)
    refused = run_trainyard(service.environment, "up", "--port", "0")
    assert refused.returncode == 1
    assert "has been in use" in refused.stderr
    elsewhere = environment_of(tmp_path / "empty") | {"TRAINYARD_DATABASE_URL": f"sqlite:///{tmp_path}/trainyard.db"}
    refused = run_trainyard(elsewhere, "up", "--port", "0")
    assert refused.returncode == 1
    assert "the database has keys" in refused.stderr
    shutil.rmtree(home)
