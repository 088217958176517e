"""Packed attention on a GPU: flash-attn's kernel or torch's own, one call for all documents of a flat row.

Both take states as [T, H, D], documents by where each begins, and align the causal mask to the bottom right: where
a document has fewer queries than keys, the queries are its last tokens, as a shared prefix requires.
Shapes: S documents, H query heads, K key/value heads, T tokens of the flat row, U keys (those of shared prefixes
once for every document that begins with them), D head width.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from engine.events import AttentionPath

_HALF = (torch.float16, torch.bfloat16)
_WIDEST = 192
"""Wider heads have a backward pass on data-centre GPUs only."""
_OLDEST = (8, 0)
"""Ampere, whose instructions the kernels use."""


class Spans(NamedTuple):
    """Where each document's queries and keys begin and end, in the kernels' format."""

    queries: Tensor
    """[S + 1] int32: the number of query tokens before each document, and in all."""
    keys: Tensor
    """[S + 1] int32: the same for keys."""
    longest_queries: int
    longest_keys: int
    taken: Tensor | None
    """[U]: which tokens of the row the keys are; None: all of them, in their order."""


Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, Spans, float, tuple[int, int]], Tensor]
"""(queries [T, H, D], keys and values [U, K, D], spans, scale, window) to [T, H, D].

A query sees the keys from `window[0]` places to the left of its own to `window[1]` to the right, -1: without limit.
"""


def path_for(device_type: str, dtype: torch.dtype, width: int, *, flash_attn: bool, varlen: bool) -> AttentionPath:
    """Return the fastest path for heads of this width and type; `flash_attn` and `varlen` say which kernels run here."""
    if device_type == "cpu":
        return "bmm"
    fits = dtype in _HALF and width % 8 == 0 and width <= _WIDEST
    if fits and flash_attn:
        return "flash-attn"
    return "varlen" if fits and varlen else "sdpa"


@lru_cache(maxsize=8)
def path_on(device: torch.device, dtype: torch.dtype, width: int) -> AttentionPath:
    """Return `path_for` with the kernels installed, on this device."""
    recent = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _OLDEST
    # This is the compiled part: other packages install a folder `flash_attn` too.
    flash_attn = recent and find_spec("flash_attn_2_cuda") is not None
    varlen = recent and torch.backends.cuda.is_flash_attention_available()
    return path_for(device.type, dtype, width, flash_attn=flash_attn, varlen=varlen)


@lru_cache(maxsize=8)
def spans_of(segments: tuple[int, ...], prefixes: tuple[tuple[int, int], ...], device: torch.device) -> Spans:
    """Return the spans, built for the first layer and cached for the others: copies to the device make it wait."""
    ahead = prefixes or ((0, 0),) * len(segments)
    lengths = [own + end - begin for own, (begin, end) in zip(segments, ahead, strict=True)]
    taken = None
    if lengths != list(segments):
        starts = accumulate(segments, initial=0)
        own = ((start, start + length) for start, length in zip(starts, segments, strict=False))
        places = [torch.arange(*span) for both in zip(ahead, own, strict=True) for span in both]
        taken = torch.cat(places).to(device)
    return Spans(_ends(segments, device), _ends(lengths, device), max(segments), max(lengths), taken)


def _ends(lengths: Any, device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def attend(
    states: tuple[Tensor, Tensor, Tensor], spans: Spans, scale: float, window: int | None, kernel: Kernel
) -> Tensor:
    """Return the output [H, T, D] for queries [H, T, D] and keys and values [K, T, D]; a query sees `window` keys."""
    q_THD, k_UKD, v_UKD = (x.transpose(0, 1) for x in states)
    if spans.taken is not None:
        k_UKD, v_UKD = k_UKD.index_select(0, spans.taken), v_UKD.index_select(0, spans.taken)
    # The kernels count the keys to the left of a query; a window includes the query's own place.
    reach = -1 if window is None else window - 1
    return kernel(q_THD, k_UKD, v_UKD, spans, scale, (reach, 0)).transpose(0, 1)


@lru_cache(maxsize=2)
def kernel_of(path: AttentionPath) -> Kernel:
    """Return the kernel of `flash-attn` or `varlen`, imported at its first use."""
    if path == "flash-attn":
        flash_attn_varlen_func = import_module("flash_attn").flash_attn_varlen_func

        def flash_attn(q: Tensor, k: Tensor, v: Tensor, spans: Spans, scale: float, window: tuple[int, int]) -> Tensor:
            return flash_attn_varlen_func(
                *(q, k, v, spans.queries, spans.keys, spans.longest_queries, spans.longest_keys),
                softmax_scale=scale,
                causal=True,
                window_size=window,
                deterministic=torch.are_deterministic_algorithms_enabled(),
            )

        return flash_attn
    varlen_attn = import_module("torch.nn.attention.varlen").varlen_attn

    def varlen(q: Tensor, k: Tensor, v: Tensor, spans: Spans, scale: float, window: tuple[int, int]) -> Tensor:
        return varlen_attn(
            *(q, k, v, spans.queries, spans.keys, spans.longest_queries, spans.longest_keys),
            scale=scale,
            window_size=window,
            enable_gqa=q.shape[1] != k.shape[1],
        )

    return varlen
