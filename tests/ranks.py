"""Small runs that several ranks carry out, and what is compared of them."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from safetensors.torch import load_file

from engine.__main__ import main
from engine.dist import forking
from tests import runs

STEPS, SAVE_STEPS = (20, 10) if os.environ.get("TRAINYARD_RANKS") == "all" else (6, 3)
GIVEN = {"max_steps": STEPS, "precision": "fp32", "per_device_train_batch_size": 4, "learning_rate": 0.002}
DROPOUT = {"method": "lora", "r": 4, "lora_dropout": 0.2}
FULL = {"method": "full"}


def training(spec: dict[str, Any], tuning: dict[str, Any]) -> dict[str, Any]:
    return spec | {"tuning": tuning, "checkpoints": {"save_steps": SAVE_STEPS}}


def sft(tuning: dict[str, Any], **more: Any) -> Callable[[Path], Path]:
    return lambda root: runs.sft_run(root, 120, training(runs.sft_spec(**GIVEN | more), tuning))


def dpo(tuning: dict[str, Any]) -> Callable[[Path], Path]:
    return lambda root: runs.dpo_run(root, 120, training(runs.dpo_spec(**GIVEN), tuning))


def qlora(root: Path) -> Path:
    return runs.quantized_run(root, training(runs.sft_spec(**GIVEN), {"method": "qlora", "r": 4, "lora_dropout": 0.2}))


def pretrain(root: Path) -> Path:
    runs.pretrain_run(root, **GIVEN)
    job = json.loads((root / "job.json").read_text())
    return runs.write_job(root, job["spec"] | {"checkpoints": {"save_steps": SAVE_STEPS}})


def experts(root: Path) -> Path:
    job = json.loads((pretrain(root) / "job.json").read_text())
    return runs.write_job(root, job["spec"] | {"model": job["spec"]["model"] | {"num_local_experts": 4}})


RUNS: dict[str, Callable[[Path], Path]] = {
    "pretrain": pretrain,
    "sft full": sft(FULL, per_device_train_batch_size=1, gradient_accumulation_steps=8),  # several each on 4 ranks too
    "sft lora": sft(DROPOUT, packing=False),
    "sft qlora": qlora,
    "dpo full": dpo(FULL),
    "dpo lora": dpo(DROPOUT | {"target_modules": ["q_proj", "down_proj"]}),  # each adapter takes time in ZeRO-3
}

MADE = RUNS | {"pretrain experts": experts}
"""With those that not everything is tried on."""


class Forked:
    """Ranks forked off processes that have imported torch, and DeepSpeed for `zero`: small runs cost little else.

    The tests' own process cannot be forked: it has threads by then. And there are two, so that not all ranks agree on
    what Python draws as it starts, by which sets are ordered: those of several machines do not.
    """

    def __init__(self, log: Path, *, zero: bool = True) -> None:
        self._log = log
        shared = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"}
        program = (
            "from engine import gc_pause\n"
            "with gc_pause.paused():\n"
            "    from tests.ranks import fork_when_asked\n"
            f"fork_when_asked(zero={zero})\n"
        )
        with log.open("ab") as told:
            self._parents = [
                subprocess.Popen(
                    [sys.executable, "-c", program],
                    cwd=runs.ROOT,
                    env=os.environ | shared,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=told,
                    text=True,
                    start_new_session=True,
                )
                for _ in range(2)
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for parent in self._parents:
            os.killpg(parent.pid, signal.SIGKILL)
            parent.communicate()

    def carry_out(self, count: int, *roots: Path) -> None:
        """These runs, one after the other, in `count` processes."""
        self._ask(count, _carry_out_all, roots)

    def carry_out_apart(self, *roots: Path) -> None:
        """Each of these runs in a process of its own, side by side, as `python -m engine` does."""
        self._ask(len(roots), _carry_out_one, roots)

    def told(self, function: Callable[..., Any], count: int, *roots: Path) -> list[Any]:
        """What a function of a module returns in each of `count` processes; it is given the roots, as text."""
        self._ask(count, function, roots, tells=True)
        return [json.loads((roots[0] / f"told-{rank}.json").read_text()) for rank in range(count)]

    def _ask(self, count: int, function: Callable[..., Any], roots: tuple[Path, ...], *, tells: bool = False) -> None:
        for number, parent in enumerate(self._parents):
            assert parent.stdin is not None
            ranks = [*range(number, count, len(self._parents))]
            asked = [ranks, count, function.__module__, function.__name__, tells, [*map(str, roots)]]
            parent.stdin.write(json.dumps(asked) + "\n")
            parent.stdin.flush()
        answers = [parent.stdout.readline() for parent in self._parents if parent.stdout is not None]
        assert answers == ["[]\n", "[]\n"], self._log.read_text()[-3000:]


def fork_when_asked(*, zero: bool) -> None:
    """What `Forked` talks to; answers with the exit codes that are not 0."""
    forking.prepare(zero=zero)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        ranks, count, module, name, tells, roots = json.loads(line)
        function = getattr(importlib.import_module(module), name)
        forked = [_fork(rank, count, function, roots, tells=tells) for rank in ranks]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in forked]
        answers.write(f"{[code for code in codes if code]}\n")
        answers.flush()


def _fork(rank: int, count: int, function: Callable[..., Any], roots: list[str], *, tells: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ |= {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        done = function(*roots)
        if tells:
            Path(roots[0], f"told-{rank}.json").write_text(json.dumps(done))
        code = 0 if tells else done
    except BaseException:  # noqa: BLE001 - this is no place to go on from
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _carry_out_all(*roots: str) -> int:
    return runs.carry_out_all([*roots])


def _carry_out_one(*roots: str) -> int:
    """The run of this rank's number, as a process that is no rank."""
    root = roots[int(os.environ["RANK"])]
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "GLOO_SOCKET_IFNAME"):
        del os.environ[name]
    return main([root])


def finished(processes: list[Any]) -> None:
    for process in processes:
        told, _ = process.communicate(timeout=200)
        assert process.returncode == 0, told[-3000:]


def from_checkpoint(whole: Path, root: Path) -> Path:
    """A run that has nothing but the first checkpoint of another."""
    skipped = shutil.ignore_patterns("events.jsonl", "ranks", "output", "rows.bin", f"step-{STEPS:08d}")
    return Path(shutil.copytree(whole, root, ignore=skipped))


def scores(root: Path) -> dict[int, float]:
    return {e["step"]: e["values"]["eval_loss"] for e in runs.events(root, "metrics") if e["split"] == "eval"}


def norms(root: Path) -> dict[int, float]:
    return {e["step"]: e["values"]["grad_norm"] for e in runs.events(root, "metrics") if e["split"] == "train"}


def check_same(one: Path, other: Path, *, begun: int = 0) -> None:
    """Losses and gradients' norms after step `begun`, the last evaluation and the result."""
    expected = {step: loss for step, loss in runs.losses(one).items() if step > begun}
    assert runs.losses(other) == pytest.approx(expected, rel=1e-6)
    expected = {step: norm for step, norm in norms(one).items() if step > begun}
    assert norms(other) == pytest.approx(expected, rel=1e-5)  # Adam's steps do not show how large gradients were
    assert scores(other)[STEPS] == pytest.approx(scores(one)[STEPS], rel=1e-6)
    ours, theirs = (load_file(next((root / "output").glob("*.safetensors"))) for root in (other, one))
    assert ours.keys() == theirs.keys()
    for tensor, expected_tensor in theirs.items():
        (got, wanted) = (_felt(tensor, values) for values in (ours[tensor], expected_tensor))
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)


def _felt(name: str, values: torch.Tensor) -> torch.Tensor:
    """All but the biases of GPT-2's keys, which no softmax feels: their gradients are rounding, of which Adam makes steps."""
    if not name.endswith("attn.c_attn.bias"):
        return values
    query, _, value = values.chunk(3)
    return torch.cat([query, value])
