"""Ranks of which one has long work to do alone: the others wait for it longer than for an answer, but not for a dead one."""

import os
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests import runs

TIMEOUT_S = 3.0
PROGRAM = """
import os, signal, sys, time
from datetime import timedelta
from pathlib import Path
import torch
import torch.distributed as dist
from engine.dist.ranks import Ranks
from engine.errors import TouchLost

met = Ranks.here()
met.connect(torch.device("cpu"), Path(sys.argv[1]), 60.0)  # one may begin much later than the other
ranks = Ranks(met.rank, met.count, dist.new_group(None, timedelta(seconds=float(sys.argv[2]))))

def leader_first(leader):
    with ranks.leader_first():
        ranks.leads and leader()

def divide(leader):
    assert ranks.divide([0, 1], lambda mine: [ranks.leads and leader() or item for item in mine]) == [0, 1]

def patient(leader):
    ranks.leads and leader()
    ranks.patient()

def wait(leader):
    ranks.leads and leader()
    ranks.wait()

def sleep():
    time.sleep(float(sys.argv[2]) + 1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

try:
    locals()[sys.argv[3]](locals()[sys.argv[4]])
except TouchLost:
    print("lost")
else:
    print("met")
sys.stdout.flush()
os._exit(0)
"""


def told(tmp_path: Path, how: str, leader: str) -> list[str]:
    """What two ranks come to, the leader first."""
    shared = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    asked = [sys.executable, "-c", PROGRAM, str(tmp_path / "meeting"), str(TIMEOUT_S), how, leader]
    both = [Popen(asked, cwd=runs.ROOT, env=shared | {"RANK": str(rank)}, stdout=PIPE, text=True) for rank in (0, 1)]
    try:
        return [process.communicate(timeout=60)[0].strip() for process in both]
    finally:
        for process in both:
            process.kill()


@pytest.mark.parametrize("how", ["leader_first", "divide"])
def test_one_that_works_alone_for_longer_than_an_answer_may_take_is_waited_for(tmp_path: Path, how: str):
    assert told(tmp_path, how, "sleep") == ["met", "met"]


def test_anything_else_is_waited_for_no_longer_than_an_answer(tmp_path: Path):
    assert told(tmp_path, "wait", "sleep")[1] == "lost"


@pytest.mark.parametrize("how", ["leader_first", "divide", "patient"])
def test_one_that_dies_meanwhile_or_before_is_noticed_at_once(tmp_path: Path, how: str):
    begun_s = time.monotonic()
    assert told(tmp_path, how, "die") == ["", "lost"]
    assert time.monotonic() - begun_s < 50
