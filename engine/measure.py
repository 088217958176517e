"""The speed of a run: the device's matmul rate, the share of it that is used, tokens per second, memory."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers.models.mixtral.modeling_mixtral import MixtralExperts, MixtralTopKRouter
from transformers.pytorch_utils import Conv1D

from engine.data.corpus import Batch
from engine.dist.ranks import Ranks
from engine.model.forward import decoder_of, head_of, head_width_of
from engine.model.quantize import size_of
from engine.precision import Machine

_SIZE = 1024
_SECONDS = 0.2
_STEP_PARTS: tuple[str, ...] = ("forward_s", "backward_s", "optimizer_s")


def matmul_tflops(machine: Machine) -> float:
    """Measure the best rate of a square matmul in the compute type, over about 0.2 s."""
    size = _SIZE if machine.device.type == "cpu" else 8 * _SIZE
    a = torch.randn(size, size, device=machine.device, generator=torch.Generator(machine.device).manual_seed(0))
    a = a.to(machine.compute_dtype)
    a.matmul(a)
    best, until = math.inf, time.perf_counter() + _SECONDS
    while math.isinf(best) or time.perf_counter() < until:  # at least once, however busy the machine is
        start = time.perf_counter()
        a.matmul(a)
        _wait(machine)
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best / 1e12


def _wait(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize()


class _Parts:
    """The seconds of each part of a step, without waiting for the GPU: unfinished work counts later."""

    def __init__(self, machine: Machine) -> None:
        self._on_gpu = machine.device.type == "cuda"
        self._running: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = dict.fromkeys(_STEP_PARTS, 0.0)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        if self._on_gpu:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._running.append((name, begin, end))
            return
        start = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - start

    def so_far(self, name: str) -> float:
        """Return the seconds of one part since the last call of `seconds`."""
        while self._running and self._running[0][2].query():
            ended, begin, end = self._running.pop(0)
            self._seconds[ended] += begin.elapsed_time(end) / 1000
        return self._seconds[name]

    def seconds(self) -> dict[str, float]:
        """Return the seconds of all parts since the last call, and start again from 0."""
        self.so_far(_STEP_PARTS[0])
        seconds, self._seconds = self._seconds, dict.fromkeys(_STEP_PARTS, 0.0)
        return seconds


class StepWork(NamedTuple):
    """The work of a step; `counted` is the divisor of its loss, `attended` the pairs of tokens in attention."""

    counted: float
    tokens: float
    labels: float
    attended: float

    @classmethod
    def of(cls, batches: Sequence[Batch], count: Callable[[Batch], int], ranks: Ranks) -> "StepWork":
        """Add up the work of this step over all ranks."""
        taken = [batch for batch in batches if batch.counts]
        return cls(
            *ranks.totals(
                [
                    sum(count(batch) for batch in taken),
                    sum(batch.tokens for batch in taken),
                    sum(batch.count for batch in taken),
                    sum(batch.attended for batch in taken),
                ]
            )
        )


def _multiplied(module: nn.Module) -> Iterator[tuple[Any, float]]:
    """Yield the weights that tokens are multiplied by, and the share of them that a token uses (of experts, a few)."""
    if isinstance(module, nn.Linear | Conv1D | MixtralTopKRouter):
        yield module.weight, 1.0
    elif isinstance(module, MixtralExperts):
        config: Any = module.config
        share = config.num_experts_per_tok / config.num_local_experts
        yield from ((module.gate_up_proj, share), (module.down_proj, share))


def _in_use(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules without the frozen originals that PEFT keeps of those it trains whole (modules_to_save)."""
    wrappers = (module for module in model.modules() if isinstance(module, ModulesToSaveWrapper))
    originals = {original for wrapper in wrappers for original in wrapper.original_module.modules()}
    yield from (module for module in model.modules() if module not in originals)


class Meter:
    """Measures steps. FLOPs per weight and token: 2 forward, 2 for the gradient of the input, 2 for that of a trained weight."""

    def __init__(self, model: nn.Module, machine: Machine) -> None:
        """Make the meter of a whole model, before ranks divide it."""
        self._machine = machine
        self._peak = math.inf
        head = head_of(model)
        self._per_token = self._per_label = 0.0
        for module in _in_use(model):
            for weight, share in _multiplied(module):
                work = share * size_of(weight) * (6.0 if weight.requires_grad else 4.0)
                if module is head:
                    self._per_label += work
                else:
                    self._per_token += work
        config = decoder_of(model).config
        # Scores and values, the causal half: 2 * L * L * heads * head width forward, twice that backward.
        self._per_pair = 6.0 * config.num_attention_heads * head_width_of(model) * config.num_hidden_layers
        self._parts = _Parts(machine)
        self._last_at, self._cpu_s = time.perf_counter(), time.process_time()

    def begin(self, peak_tflops: float) -> None:
        """Start measuring; MFU is relative to `peak_tflops`, the rate of all ranks together."""
        self._peak = peak_tflops * 1e12
        self._last_at, self._cpu_s = time.perf_counter(), time.process_time()

    def part(self, name: str) -> AbstractContextManager[None]:
        """Time a part of the step; `name` is that of its metric."""
        return self._parts.time(name)

    def so_far(self, name: str) -> float:
        """Return the seconds that a part of this step has taken so far."""
        return self._parts.so_far(name)

    def step(self, work: StepWork, *, step_s: float) -> dict[str, float]:
        """Return the metrics of one step."""
        done = work.tokens * self._per_token + work.labels * self._per_label + work.attended * self._per_pair
        parts_s = self._parts.seconds()
        return {
            "tokens_per_s": work.tokens / step_s,
            "trained_tokens_per_s": work.labels / step_s,
            "mfu": done / step_s / self._peak,
            "device_use": self._use(sum(parts_s.values())),
            "memory_bytes": float(memory_bytes(self._machine)),
            "step_s": step_s,
            **parts_s,
        }

    def _use(self, parts_s: float) -> float:
        """Return the share of the time since the last call in which the GPU computed steps, or torch's threads ran."""
        wall_s, cpu_s = time.perf_counter() - self._last_at, time.process_time() - self._cpu_s
        self._last_at, self._cpu_s = self._last_at + wall_s, self._cpu_s + cpu_s
        busy_s = parts_s if self._machine.device.type == "cuda" else cpu_s / torch.get_num_threads()
        return min(1.0, busy_s / wall_s)


def memory_bytes(machine: Machine) -> int:
    """Return the resident memory of this process, or the peak of the GPU's allocator."""
    if machine.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
