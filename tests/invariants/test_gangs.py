"""Two machines train the model of one: each has its own disk, and the result lies on the first one's."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import runs
from tests.ranks import RUNS, SAVE_STEPS, Forked, check_same, from_checkpoint
from tests.servers import free_port

NAMES = ("sft full", "dpo lora")


def on_two(root: Path, made: Path, processes: int = 1) -> list[Path]:
    """The run directories of two machines that share a run, each with so many processes."""
    port, roots = free_port(), [root / "first", root / "second"]
    for rank, folder in enumerate(roots):
        shutil.copytree(made, folder)
        job = json.loads((folder / "job.json").read_text())
        job["spec"]["resources"] = {"device": "cpu", "num_nodes": 2, "nproc_per_node": processes}
        place = {"node_rank": rank, "num_nodes": 2, "interface": "lo", "master_addr": "127.0.0.1", "master_port": port}
        (folder / "job.json").write_text(json.dumps(job | {"gang": place}))
    return roots


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("machines") / "log") as machines:
        yield machines


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, Path]:
    made = {name: RUNS[name](tmp_path_factory.mktemp("alone") / name) for name in NAMES}
    assert not [root for root in made.values() if runs.carry_out(root)]
    return made


@pytest.mark.parametrize(("name", "processes"), [("sft full", 2), ("dpo lora", 1)])
def test_two_machines_train_the_model_of_one_process(alone, machines, tmp_path, name, processes):
    first, second = on_two(tmp_path, RUNS[name](tmp_path / "asked"), processes)
    machines.carry_out_apart(first, second)
    check_same(alone[name], first)
    assert not (second / "output").exists()
    assert not (second / "events.jsonl").exists()


def test_what_is_divided_among_machines_is_saved_on_the_first_whole(alone, machines, tmp_path):
    """By its ranks, also what those of the other hold alone; one process goes on with it."""
    asked = RUNS["sft full"](tmp_path / "asked")
    roots = [on_zero(root) for root in on_two(tmp_path, asked, 2)]
    machines.carry_out_apart(*roots)
    check_same(alone["sft full"], roots[0])
    saved = roots[0] / "checkpoints" / f"step-{SAVE_STEPS:08d}" / "state"
    assert sorted(path.name for path in saved.glob("trainer*")) == ["trainer-1-of-2.pt", "trainer-2-of-2.pt"]
    gone_on = runs.write_job(from_checkpoint(roots[0], tmp_path / "gone on"), spec_of(asked))
    assert runs.carry_out(gone_on) == 0
    check_same(alone["sft full"], gone_on, begun=SAVE_STEPS)


def spec_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "job.json").read_text())["spec"]


def on_zero(root: Path) -> Path:
    job = json.loads((root / "job.json").read_text())
    job["spec"]["resources"]["parallel"] = {"zero_stage": 1}
    (root / "job.json").write_text(json.dumps(job))
    return root


def test_two_machines_go_on_where_one_process_stood(alone, machines, tmp_path):
    first, second = on_two(tmp_path, from_checkpoint(alone["sft full"], tmp_path / "asked"))
    machines.carry_out_apart(first, second)
    check_same(alone["sft full"], first, begun=SAVE_STEPS)
