"""A home is its owner's alone, also where no `trainyard up` has made it and the shell's files are open to others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.api.live import BROKER_DOWN, until

ROOT = Path(__file__).parents[2]
MAKES = {
    "api": "blobs/tmp",
    "workers": "runs/worker-here.lock",
    "workers.recover": "blobs/tmp",
    "workers.desk": "desk.lock",
}
"""What each makes of a home that is not there."""


def begin(home: Path, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "TRAINYARD_HOME": str(home),
        "TRAINYARD_PORT": "0",
        "TRAINYARD_BROKER_URL": BROKER_DOWN,
        "TRAINYARD_WORKER_NAME": "here",
        "TRAINYARD_SECRET": "of the keys",  # without one the API does not start
    }
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, umask=0o022)


def open_to_others(home: Path) -> list[str]:
    looking = ["find", str(home), "-not", "-type", "l", "-perm", "/077"]
    return subprocess.run(looking, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()


def test_what_bootstrap_makes_is_the_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert begin(home, "api.bootstrap", "--key-file", str(home / "key")).wait(60) == 0
    assert (home / "trainyard.db").exists()
    assert open_to_others(home) == []


@pytest.mark.parametrize("module", list(MAKES))
def test_what_a_part_of_the_service_makes_is_the_owners_alone(module: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = begin(home, module)
    try:
        until((home / MAKES[module]).exists, 60)
        assert open_to_others(home) == []
    finally:
        process.kill()
        process.wait()
