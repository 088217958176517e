"""Device and compute type of a run: fp32, or bf16 autocast over fp32 master weights."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.errors import SpecError


@dataclass(frozen=True)
class Machine:
    """Where and in which type a run computes."""

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
            precision = "bf16" if name == "cuda" or _multiplies_bf16() else "fp32"
        return cls(torch.device(name), precision)

    @property
    def compute_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def _multiplies_bf16() -> bool:
    """Whether this processor has bf16 matrix instructions; without them bf16 is slower than fp32."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set[str]()
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
