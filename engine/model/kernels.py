"""Kernels for the pointwise operations of training on the CPU: kernels.cpp, compiled on the machine that it runs on."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_suffix(".cpp")
_HEADER = _SOURCE.with_name("numbers.h")
_COMPILE = (
    "-std=c++20",
    "-O3",
    "-march=native",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    # Compilers do not use registers of 512 bits by themselves. They make SwiGLU and the cross-entropy a fifth faster; the
    # backward pass of the softmax gets a third slower, but takes less of a step.
    *(("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()),
)
_TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class Kernels:
    """Thin wrappers that pass tensors as pointers; every tensor is contiguous. T tokens, D width, F inner width."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def norm(
        self, x_TD: Tensor, delta_TD: Tensor | None, weight_D: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (x + delta in fp32, its RMS norm in `dtype`, [T] 1 / rms)."""
        summed = x_TD if delta_TD is None else torch.empty_like(x_TD)
        out, inverse = torch.empty_like(x_TD, dtype=dtype), x_TD.new_empty(len(x_TD))
        self._call("norm", dtype, *x_TD.shape, x_TD, delta_TD, weight_D, ctypes.c_float(eps), summed, out, inverse)
        return summed, out, inverse

    def norm_back(
        self, x_TD: Tensor, weight_D: Tensor, inverse_T: Tensor, dy_TD: Tensor, residual_TD: Tensor, *, learns: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (residual + gradient of x in fp32, the same in the type of `dy_TD`, the weight's gradient)."""
        dx, low = torch.empty_like(x_TD), torch.empty_like(dy_TD)
        parts = x_TD.new_zeros(torch.get_num_threads(), x_TD.shape[1]) if learns else None
        given = (x_TD, weight_D, inverse_T, dy_TD, residual_TD, dx, low, parts)
        self._call("norm_back", dy_TD.dtype, *x_TD.shape, *given)
        return dx, low, None if parts is None else parts.sum(0)

    def rotary(
        self, qkv_TE: Tensor, heads: tuple[int, int, int], turn: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q [H, T, D], k and v [K, T, D] of projections; `heads` is (H, K, D), `turn` cosine and sine [T, D]."""
        queries, keys, width = heads
        shapes = [(count, len(qkv_TE), width) for count in (queries, keys, keys)]
        q, k, v = (qkv_TE.new_empty(shape) for shape in shapes)
        self._call("rotary", qkv_TE.dtype, len(qkv_TE), *heads, *turn, qkv_TE, q, k, v, ctypes.c_bool(True))
        return q, k, v

    def rotary_back(self, dq: Tensor, dk: Tensor, dv: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Return the gradient of the input of `rotary`."""
        queries, tokens, width = dq.shape
        dqkv = dq.new_empty(tokens, (queries + 2 * len(dk)) * width)
        split = (dq, dk, dv, ctypes.c_bool(False))
        self._call("rotary", dq.dtype, tokens, queries, len(dk), width, *turn, dqkv, *split)
        return dqkv

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """Return silu(gate) * up [T, F] for gate and up side by side [T, 2 F]."""
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        self._call("swiglu", out.dtype, *out.shape, gate_up, out)
        return out

    def swiglu_back(self, gate_up: Tensor, dy_TF: Tensor) -> tuple[Tensor, Tensor]:
        """Return (the gradient of gate and up [T, 2 F], the output of `swiglu`)."""
        back, out = torch.empty_like(gate_up), torch.empty_like(dy_TF)
        self._call("swiglu_back", dy_TF.dtype, *dy_TF.shape, gate_up, dy_TF, back, out)
        return back, out

    def softmax(self, scores_BRL: Tensor, span: tuple[int, int, int], scale: float) -> Tensor:
        """Compute the causal softmax in place. `span` is (queries of a head, keys ahead of the first, window or 0)."""
        rows, keys = scores_BRL.shape[0] * scores_BRL.shape[1], scores_BRL.shape[2]
        self._call("softmax", scores_BRL.dtype, rows, keys, *span, ctypes.c_float(scale), scores_BRL)
        return scores_BRL

    def softmax_back(self, d_BRL: Tensor, probs_BRL: Tensor, span: tuple[int, int, int], scale: float) -> Tensor:
        """Return the gradient of the scores, which overwrites that of the probabilities."""
        rows, keys = d_BRL.shape[0] * d_BRL.shape[1], d_BRL.shape[2]
        self._call("softmax_back", d_BRL.dtype, rows, keys, *span, ctypes.c_float(scale), probs_BRL, d_BRL)
        return d_BRL

    def cross_entropy(self, logits_NV: Tensor, labels_N: Tensor) -> Tensor:
        """Return [N] -log p(label) in fp32; the logits are overwritten by their gradients."""
        losses = logits_NV.new_empty(len(labels_N), dtype=torch.float32)
        self._call("cross_entropy", logits_NV.dtype, *logits_NV.shape, labels_N, logits_NV, losses)
        return losses

    def _call(self, name: str, dtype: torch.dtype, *given: Any) -> None:
        getattr(self._library, f"{name}_{_TYPES[dtype]}")(*map(_argument, given))


def _argument(value: Any) -> Any:
    if isinstance(value, Tensor):
        assert value.is_contiguous(), "kernels walk over memory"
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_long(value) if isinstance(value, int) else value


class NoCompilerError(OSError):
    """The kernels cannot be built here, for the reason in the message."""


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """Return the compiled kernels, built in about a second at first and then found by a hash of their sources.

    Raises:
        NoCompilerError: there is no g++ that builds them, or no folder to keep them in.
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    sources = _SOURCE.read_bytes() + _HEADER.read_bytes()
    digest = hashlib.sha256(sources + repr(_COMPILE).encode() + flags.encode()).hexdigest()
    library = _folder() / f"kernels-{digest[:16]}.so"
    if not library.exists():
        _build(library)
    return Kernels(ctypes.CDLL(str(library)))


@lru_cache(maxsize=1)
def missing() -> str | None:
    """Return why the kernels are not available, or None if they are."""
    try:
        kernels()
    except NoCompilerError as error:
        return str(error)
    return None


def take(tensor: Tensor) -> bool:
    """Return whether the kernels can be used on tensors like this one."""
    return tensor.device.type == "cpu" and compute_in(tensor.dtype) and missing() is None


def compute_in(dtype: torch.dtype) -> bool:
    """Return whether the kernels support this type; they do not support fp16, which is rare on CPUs."""
    return dtype in _TYPES


def _folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainyard"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NoCompilerError(f"{folder} cannot be created: {error}") from error
    return folder


def _build(library: Path) -> None:
    """Build the library under a temporary name first: another process may be building the same."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise NoCompilerError("there is no g++")
    building = library.with_suffix(f".{os.getpid()}")
    ran = subprocess.run([compiler, *_COMPILE, "-o", building, _SOURCE], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise NoCompilerError(f"g++ failed: {ran.stderr.strip()[-500:]}")
    building.rename(library)
