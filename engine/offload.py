"""Tensors in memory-mapped files, and an AdamW whose moments are such; little of them is resident at once."""

import ctypes
import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from engine.plan.weights import AT_ONCE, at_once_bytes

HOME = torch.device("cpu")
"""Where offloaded tensors are if not in files."""

LiesIn: TypeAlias = Path | torch.device | None
"""Where tensors are kept: in files in a folder, or on `HOME`; None: where they are used."""

_FP32 = torch.float32
_MOMENTS = ("exp_avg", "exp_avg_sq")
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class AdamWOnDisk(torch.optim.Optimizer):
    """Bit for bit torch's fused AdamW on the CPU; the weights and gradients of a GPU are copied to it part by part.

    Its files are unlinked once they are mapped: however the process ends, it leaves none behind.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, betas: tuple[float, float], folder: Path) -> None:
        """Raises OSError if the disk has too little room for the state."""
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": 1e-8})
        find_room(self.on_disk_bytes, folder, "the optimizer's state")
        self._moments = {
            weight: [mapped(weight.numel(), _FP32, folder).view(weight.shape) for _ in _MOMENTS]
            for weight in self._weights()
        }

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.param_groups for weight in group["params"]]

    @property
    def on_disk_bytes(self) -> int:
        return len(_MOMENTS) * _FP32.itemsize * sum(weight.numel() for weight in self._weights())

    @property
    def at_once_bytes(self) -> int:
        """The most bytes of it that are resident."""
        return at_once_bytes(max((weight.numel() for weight in self._weights()), default=0))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - none has one
        assert closure is None, "gradients are there already"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self._begun(weight)
        beta1, beta2 = group["betas"]
        flat = [weight.detach().view(-1), gradient.reshape(-1), *(state[key].view(-1) for key in _MOMENTS)]
        for numbers, its_gradient, *moments in zip(*(each.split(AT_ONCE) for each in flat), strict=True):
            here = numbers.cpu()
            mean, square = ([moment] for moment in moments)
            adamw(
                [here], [its_gradient.cpu()], mean, square, [], [state["step"].clone()],
                fused=True, amsgrad=False, maximize=False, beta1=beta1, beta2=beta2, eps=group["eps"],
                lr=group["lr"], weight_decay=group["weight_decay"],
            )  # fmt: skip
            numbers.copy_(here)
            for each in (numbers, *moments):
                let_go(each)
        state["step"] += 1

    def _begun(self, weight: Tensor) -> dict[str, Any]:
        """Return the state of a weight, made at its first gradient."""
        if weight not in self.state:
            self.state[weight] = {"step": torch.zeros(()), **dict(zip(_MOMENTS, self._moments[weight], strict=True))}
        return self.state[weight]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy the state into the files; rates, betas and decay stay those of this optimizer."""
        weights = self._weights()
        for number, saved in state_dict["state"].items():
            for key, held in self._begun(weights[number]).items():
                held.copy_(saved[key])
                let_go(held)


def place_of(asked: bool | str, folder: Path, device: torch.device) -> LiesIn:
    """Return where a job on `device` keeps what is offloaded to `asked`; on a CPU, its own memory is no other place."""
    if asked == "disk":
        return folder
    return HOME if asked == "cpu" and device != HOME else None


def find_room(needed: int, folder: Path, what: str) -> None:
    """Raise OSError if the disk has too little room, before it is filled up in vain."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = f"{what}: {needed / 2**30:.2f} GiB, where {free / 2**30:.2f} GiB are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {message}")


def mapped(count: int, dtype: torch.dtype, folder: Path) -> Tensor:
    """Return zeros in a file that is allocated in full: a write to a map without room on disk would kill the process."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".offload-") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, count * dtype.itemsize))
        return torch.from_file(file.name, shared=True, size=count, dtype=dtype)


def lies_in_file(tensor: Tensor) -> bool:
    return tensor.untyped_storage().filename is not None


def let_go(tensor: Tensor) -> None:
    """Drop a tensor's pages from memory, if it is in a file; the kernel keeps what was written or writes it out.

    Writing it out here (msync) would wait for the disk without making it any less resident.
    """
    if lies_in_file(tensor):
        leave_in_file(tensor)


def leave_in_file(tensor: Tensor) -> None:
    """Drop the pages of a tensor that is known to be in a file; torch does not record it for those of torch.load."""
    start = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    if _LIBC.madvise(start, tensor.data_ptr() + tensor.nbytes - start, mmap.MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Sparing:
    """A file that optimizer state is written to; tensors that are in files themselves do not stay resident."""

    def __init__(self, file: BinaryIO, held: Iterable[Tensor]) -> None:
        self._file, self._on_disk = file, [tensor for tensor in held if lies_in_file(tensor)]
        self._resident_bytes = 0
        self.failure: OSError | None = None
        """The disk's error, which torch hides behind one of its own."""

    def write(self, data: Any) -> int:
        self._resident_bytes += len(data)
        try:
            written = self._file.write(data)
        except OSError as failure:
            self.failure = failure
            raise
        if self._resident_bytes >= AT_ONCE * _FP32.itemsize:
            self._resident_bytes = 0
            for tensor in self._on_disk:
                let_go(tensor)
        return written

    def flush(self) -> None:
        self._file.flush()
