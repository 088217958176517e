"""What several ranks save together: each a part of its own, a checkpoint once all are there, and none of them all of it."""

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from engine import checkpoint
from engine.errors import EXIT_BUG
from engine.footprint import resident
from engine.loop import Training
from engine.shards import name_of
from tests import runs
from tests.invariants.test_ranks_lost import Shared
from tests.ranks import MADE, STEPS, Forked, from_checkpoint

FIRST, LAST = (f"checkpoints/step-{step:08d}" for step in (STEPS // 2, STEPS))


class Case(NamedTuple):
    """A run on so many ranks, which divide it in such a way."""

    name: str
    ranks: int
    how: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} {self.ranks} {self.how} {self.size}"


CASES = [
    Case("sft full", 2, "zero_stage", 0),
    Case("sft full", 4, "zero_stage", 1),
    Case("sft full", 2, "zero_stage", 3),
    Case("sft full", 4, "tp_size", 2),
    Case("pretrain experts", 4, "ep_size", 4),
    Case("sft full", 4, "pp_size", 2),
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("ranks") / "log") as ranks:
        yield ranks


def carry_out(ranks: Forked, made: dict[Case, Path]) -> dict[Case, Path]:
    for count in (2, 4):
        ranks.carry_out(count, *(root for case, root in made.items() if case.ranks == count))
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory, ranks) -> dict[Case, Path]:
    root = tmp_path_factory.mktemp("made")
    made = {case: MADE[case.name](root / str(case)) for case in CASES}
    for case, folder in made.items():
        spec = json.loads((folder / "job.json").read_text())["spec"]
        runs.write_job(
            folder,
            spec | {"resources": {"device": "cpu", "nproc_per_node": case.ranks, "parallel": {case.how: case.size}}},
        )
    return carry_out(ranks, made)


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory, ranks, made) -> dict[Case, Path]:
    root = tmp_path_factory.mktemp("gone on")
    return carry_out(ranks, {case: from_checkpoint(whole, root / str(case)) for case, whole in made.items()})


def bytes_in(path: Path) -> int:
    """Of the optimizer's state in a file, what several weights share once."""
    saved = torch.load(path, weights_only=True)["optimizer"]
    values = [value["part"] if isinstance(value, dict) else value for of in saved.values() for value in of.values()]
    return sum({value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in values}.values())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_rank_saves_about_as_much_as_the_others_and_nothing_is_saved_twice(made, case):
    state = made[case] / LAST / "state"
    names = [name_of(number, case.ranks) for number in range(case.ranks)]
    assert sorted(path.name for path in state.iterdir()) == sorted([*names, "progress.json", "rows.bin"])
    sizes = [8 * shapes["exp_avg"].numel() for shapes in checkpoint.optimizer_of(state.parent).shapes().values()]
    saved = [bytes_in(state / name) for name in names]
    assert sum(saved) == pytest.approx(sum(sizes), rel=0.02)
    assert max(saved) < 1.5 * max(sum(sizes) / case.ranks, *sizes)  # what all hold alike is saved by one of them


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_many_ranks_go_on_with_it_to_the_same_bits(made, gone_on, case):
    (result,) = (path.name for path in (made[case] / "output").glob("*.safetensors"))
    whole, again = (root[case] for root in (made, gone_on))
    assert (again / "output" / result).read_bytes() == (whole / "output" / result).read_bytes()
    expected = {step: loss for step, loss in runs.losses(whole).items() if step > STEPS // 2}
    assert runs.losses(again) == expected
    ours, theirs = (checkpoint.optimizer_of(root / LAST) for root in (again, whole))
    assert ours.keys() == theirs.keys()
    for name, expected_values in theirs.items():
        assert all(torch.equal(ours[name][key], value) for key, value in expected_values.items())


@pytest.mark.parametrize("torn", [True, False])
def test_a_part_that_is_torn_or_gone_is_refused_by_its_name(made, tmp_path, torn):
    root = from_checkpoint(made[CASES[1]], tmp_path / "run")
    path = root / FIRST / "state" / name_of(2, 4)
    if torn:
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.unlink()
    assert runs.carry_out(root) == EXIT_BUG
    failed = runs.events(root)[-1]
    assert failed["code"] == "checkpoint_torn"
    name = f"{Path(FIRST).name}/state/trainer-3-of-4.pt"
    assert failed["message"].startswith(f"{name} is torn: " if torn else f"{name} is missing")
    assert not runs.losses(root)


def saved_at_each_step(root: Path) -> Path:
    """Enough weights for a save to take a while."""
    spec = runs.sft_spec(max_steps=12, precision="fp32", learning_rate=0.001)
    resources = {"device": "cpu", "nproc_per_node": 2}
    spec |= {"checkpoints": {"save_steps": 1}, "tuning": {"method": "full"}, "resources": resources}
    runs.sft_run(root, spec=spec)
    runs.save_base(root / "model", width=256)
    return root


def result(root: Path) -> tuple[bytes, dict[int, float]]:
    return (root / "output" / "model.safetensors").read_bytes(), runs.losses(root)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    made = saved_at_each_step(tmp_path_factory.mktemp("undisturbed") / "run")
    goes_on(made)
    return made


def afresh(undisturbed: Path, root: Path) -> Path:
    kept = shutil.ignore_patterns("checkpoints", "output", "events.jsonl", "rows.bin", "ranks")
    return Path(shutil.copytree(undisturbed, root, ignore=kept))


def goes_on(root: Path) -> None:
    process = runs.fork(root)
    process.join(200)
    assert process.exitcode == 0


def inside_its_part(root: Path, rank: int) -> str | None:
    """The step of which this rank writes its part just now, standing still; None: it has ended."""
    begun = Path(f"/proc/{rank}")
    while begun.exists():
        for half in root.glob(f"checkpoints/.writing-*/state/.{name_of(1, 2)}"):
            os.kill(rank, signal.SIGSTOP)
            if half.exists():
                return half.parts[-3].removeprefix(".writing-")
            os.kill(rank, signal.SIGCONT)
    return None


def test_a_rank_killed_inside_its_part_leaves_the_checkpoint_before_and_the_run_goes_on_to_the_same(
    undisturbed, tmp_path
):
    root = afresh(undisturbed, tmp_path / "run")
    begun = Shared(root, until=2)
    step = inside_its_part(root, begun.ranks[1])
    assert step is not None, "it was never seen to write"
    os.kill(begun.ranks[1], signal.SIGKILL)
    begun.asked_at = time.monotonic()
    assert begun.ended() == EXIT_BUG
    failed = runs.events(root)[-1]
    assert failed["message"] == "rank 1 of 2 was killed (SIGKILL); the others were ended"
    assert not (root / "checkpoints" / step).exists()
    before = checkpoint.newest(root / "checkpoints")
    assert before is not None
    assert before.name < step
    goes_on(root)
    assert result(root) == result(undisturbed)


def test_a_rank_that_finds_no_room_for_its_part_says_so_for_the_run(undisturbed, tmp_path):
    root = afresh(undisturbed, tmp_path / "run")
    begun = Shared(root, until=2)
    resource.prlimit(begun.ranks[1], resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
    assert begun.ended() == EXIT_BUG
    failed = runs.events(root)[-1]
    assert (failed["failure"], failed["code"]) == ("bug", "unexpected")
    assert failed["message"] == "rank 1 of 2: OSError: [Errno 27] File too large"
    goes_on(root)
    assert result(root) == result(undisturbed)


def large(root: Path) -> Path:
    """Its state is 150 MiB."""
    runs.pretrain_run(root, max_steps=50, precision="fp32", max_length=16)
    spec = json.loads((root / "job.json").read_text())["spec"]
    shape = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
    resources = {"device": "cpu", "nproc_per_node": 2, "parallel": {"zero_stage": 1}}
    return runs.write_job(root, spec | {"model": shape, "resources": resources})


def grown_to_save(root: str) -> tuple[int, int]:
    """Of a rank of `large`: bytes of memory, and those of the whole state."""
    with runs.opened(Path(root)) as session:
        spec: Any = session.spec
        training = Training(session, spec)
        training.pace.start()
        training._step()
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        training._save()
        training.saver.finish()
        grown = resident("VmHWM") - before
        session.ranks.wait()
        whole = 8 * sum(p.numel() for _, p in training.trainable)
    return grown, whole


def test_no_rank_grows_by_the_whole_state_to_save_it(tmp_path, ranks):
    root = large(tmp_path / "run")
    (root / "ranks").mkdir()
    told = ranks.told(grown_to_save, 2, root)
    for rank, (grown, whole) in enumerate(told):
        assert whole > 100 << 20
        exported = whole / 2 if rank == 0 else 0  # safetensors makes a copy of all weights
        assert grown < exported + whole / 8
