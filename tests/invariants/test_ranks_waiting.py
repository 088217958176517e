"""Ranks of which one has long work to do alone: the others wait for it longer than for an answer, but not for a dead one."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
import torch.distributed as dist

from engine import checkpoint, export, samples
from engine.dist.ranks import Ranks
from engine.loop import Training
from tests import runs
from tests.ranks import FULL, Forked, sft

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


SLOW_S = TIMEOUT_S + 1


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("ranks") / "log", zero=False) as ranks:
        yield ranks


def test_a_rank_that_writes_samples_or_weights_for_longer_than_an_answer_may_take_is_waited_for(tmp_path, ranks):
    root = sft(FULL, max_steps=4)(tmp_path / "run")
    spec = json.loads((root / "job.json").read_text())["spec"]
    asked = {"prompts": ["the cat"], "max_new_tokens": 2, "temperature": 0}
    runs.write_job(root, spec | {"samples": asked, "checkpoints": {"save_steps": 3, "eval_steps": 4}})
    (root / "ranks").mkdir()
    assert ranks.told(trained_slowly, 2, root) == [["save", "samples", "save", "export"], []]
    assert runs.events(root)[-1]["type"] == "finished"


def trained_slowly(root: str) -> list[str]:
    """What this rank took its time for in a run whose first rank samples, saves and exports slowly."""
    slow = []

    def slowly(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **named: Any) -> Any:
            if Ranks.here().leads:
                slow.append(name)
                time.sleep(SLOW_S)
            return function(*arguments, **named)

        return work

    with runs.opened(Path(root)) as session:
        spec: Any = session.spec
        group: Any = dist.new_group(None, timedelta(seconds=TIMEOUT_S))
        session.ranks = Ranks(session.ranks.rank, session.ranks.count, group)
        session.divide(replicas=session.ranks)
        samples.generate = slowly("samples", samples.generate)
        checkpoint.save = slowly("save", checkpoint.save)
        export._write = slowly("export", export._write)
        training = Training(session, spec)
        training.carry_out()
        export.export(session, spec, training.selection)
    return slow
