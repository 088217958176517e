"""The device and the compute type of a run: fp32, or autocast to bf16 or fp16 over fp32 master weights."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from engine import shape_rounding
from engine.checkpoint import Progress
from engine.errors import SpecError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """The device and the type that a run computes in."""

    device: torch.device
    precision: str

    @classmethod
    def choose(cls, device: str, precision: str) -> "Machine":
        """Resolve both `auto`s on this machine."""
        has_cuda = torch.cuda.is_available()
        if device == "cuda" and not has_cuda:
            raise SpecError(
                "no_cuda",
                "the spec asks for cuda and this worker has no GPU",
                "Set resources.device to 'auto' or 'cpu'.",
            )
        name = device if device != "auto" else "cuda" if has_cuda else "cpu"
        if name == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        if precision == "auto":
            precision = _best_on_gpu() if name == "cuda" else "bf16" if _multiplies_bf16() else "fp32"
        return cls(_own_gpu() if name == "cuda" else torch.device(name), precision)

    @property
    def compute_dtype(self) -> torch.dtype:
        return _DTYPES[self.precision]

    @property
    def step(self) -> int:
        """Lengths are rounded up to a multiple of this."""
        return shape_rounding.step_of(self.device.type, self.compute_dtype.itemsize)

    def autocast(self, *, passes: bool = False) -> torch.autocast:
        """Return a context for one pass, which casts each weight on use; or for several `passes`, which share the copies."""
        # Autocast has no fp32: disabled, its type does not matter. Its cache would keep a copy of every weight to the
        # end, even of those that no backward pass needs.
        reduced = self.precision != "fp32"
        dtype = self.compute_dtype if reduced else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=reduced, cache_enabled=passes)


def _own_gpu() -> torch.device:
    """Return the GPU of this process: each process of a run has one to itself."""
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise SpecError(
            "too_few_gpus",
            f"the spec asks for more processes than the {count} GPUs of this worker",
            f"Set resources.nproc_per_node to {count} or less.",
        )
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


def _best_on_gpu() -> str:
    """Return bf16, or fp16 for GPUs before Ampere, which emulate bf16 slowly."""
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _multiplies_bf16() -> bool:
    """Whether this processor has bf16 matrix instructions; without them bf16 is slower than fp32."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set[str]()
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


class LossScale:
    """Dynamic loss scaling, which keeps fp16 gradients from vanishing (Micikevicius et al. 2018, arXiv:1710.03740).

    The scale is a power of two, so that scaling rounds nothing. Its state is in the run's progress, so that a resumed
    run continues with it. In other types than fp16 the scale is 1, also for a resumed run that began in fp16.
    """

    FIRST = 2.0**16
    HIGHEST = 2.0**24
    STEPS_TO_GROW = 2000

    def __init__(self, progress: Progress, precision: str) -> None:
        self._progress = progress
        self.active = precision == "fp16"
        if self.active and progress.loss_scale is None:
            progress.loss_scale = self.FIRST

    @property
    def value(self) -> float:
        return (self._progress.loss_scale or 1.0) if self.active else 1.0

    def undo(self, weights: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the scale."""
        for weight in weights if self.active else ():
            if weight.grad is not None:
                weight.grad.mul_(1.0 / self.value)

    def overflows(self, grad_norm: float) -> bool:
        """Return whether the scale was too high for this step, which is then skipped; adjust the scale either way."""
        progress = self._progress
        if not self.active:
            return False
        if math.isfinite(grad_norm):
            progress.steps_at_scale += 1
            if progress.steps_at_scale >= self.STEPS_TO_GROW:
                progress.loss_scale, progress.steps_at_scale = min(2 * self.value, self.HIGHEST), 0
            return False
        if self.value <= 1.0:
            return False
        progress.loss_scale, progress.steps_at_scale = self.value / 2, 0
        return True
