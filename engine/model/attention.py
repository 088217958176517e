"""Causal attention over one flat row of packed documents; none attends to another.

Registered with transformers under `PACKED`, so that every decoder which speaks its AttentionInterface
trains on packed rows without a mask. Shapes: H query heads, K key/value heads, G = H / K, T tokens of
the flat row, D head width, L tokens of one document.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from engine.errors import SpecError

PACKED = "trainyard_packed"

_BLOCK = 256
"""Query rows worked on at once: bounds the memory of long documents and skips most of what causality hides."""
_KEEP_UP_TO = 512
"""Documents up to this length keep their probabilities for the backward pass; longer ones compute them again."""


class _Row(NamedTuple):
    """How a flat row is attended to: its documents' lengths, the scores' scale, the reach of a sliding window."""

    segments: tuple[int, ...]
    scale: float
    window: int | None


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: tuple[int, ...],
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each document of a flat row: query [1, H, T, D] to output [1, T, H, D].

    `segments` are the documents' lengths; they add up to T. Attention dropout is not applied: a base
    model's own dropout is off in this engine.
    """
    if softcap is not None or s_aux is not None:
        raise SpecError(
            "attention_unsupported",
            f"{type(module).__name__} caps its scores or has attention sinks, which packed attention does not do",
            "Use a model of the Llama, Mistral, Qwen or GPT-2 family.",
        )
    assert attention_mask is None, "packed rows carry segments, not masks"
    assert sum(segments) == query.shape[2], "segments must cover the row"
    row = _Row(segments, query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window)
    # Rotary positions are computed in fp32 under autocast and pull query and key up with them.
    dtype = torch.get_autocast_dtype(query.device.type) if torch.is_autocast_enabled(query.device.type) else value.dtype
    q, k, v = (states[0].to(dtype) for states in (query, key, value))
    if query.device.type == "cpu":
        out_HTD: Tensor = _PerDocument.apply(q, k, v, row)  # type: ignore[assignment]
    else:
        out_HTD = _sdpa_per_document(q, k, v, row)
    return out_HTD.transpose(0, 1)[None], None


def _sdpa_per_document(q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, row: _Row) -> Tensor:
    """One call of torch's fused kernels a document."""
    outs, start = [], 0
    for length in row.segments:
        part = slice(start, start + length)
        hidden = None
        if row.window is not None and length > row.window:
            hidden = _visible(length, length, row.window, q_HTD.device)
        outs.append(
            functional.scaled_dot_product_attention(
                q_HTD[None, :, part],
                k_KTD[None, :, part],
                v_KTD[None, :, part],
                attn_mask=hidden,
                is_causal=hidden is None,
                scale=row.scale,
                enable_gqa=q_HTD.shape[0] != k_KTD.shape[0],
            )
        )
        start += length
    return torch.cat(outs, dim=2)[0]


def _visible(rows: int, width: int, window: int | None, device: torch.device) -> Tensor:
    """[rows, width] booleans: the last `rows` queries over `width` keys that end with them."""
    ahead = torch.arange(width, device=device)[None] - torch.arange(width - rows, width, device=device)[:, None]
    seen = ahead <= 0
    return seen if window is None else seen & (ahead > -window)


@lru_cache(maxsize=32)
def _bias_of(reach: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[_BLOCK, reach + _BLOCK] of 0 and -inf, the diagonal starting at column `reach`."""
    seen = _visible(_BLOCK, reach + _BLOCK, window, torch.device("cpu"))
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


def _bias(rows: int, before: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[rows, before + rows]: a cut of the cached mask for a block with `before` keys ahead of its first query."""
    reach = 0 if before == 0 else 1 << (before - 1).bit_length()
    return _bias_of(reach, window, dtype)[:rows, reach - before : reach + rows]


def _blocks(length: int, window: int | None) -> list[tuple[int, int, int]]:
    """(first key, first query, end) of each block of a document."""
    starts = range(0, length, _BLOCK)
    return [(0 if window is None else max(0, b - window + 1), b, min(length, b + _BLOCK)) for b in starts]


class _PerDocument(torch.autograd.Function):
    """bmm attention with its own backward: on the CPU several times quicker than the fused kernels.

    Grouped queries are folded into the rows, [K, G * rows, D], so keys and values are never repeated and
    their gradients add up inside the matmul.
    """

    @staticmethod
    def forward(ctx: Any, q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, row: _Row) -> Tensor:
        heads, tokens, width = q_HTD.shape
        groups = heads // k_KTD.shape[0]
        q, k, v = q_HTD.contiguous(), k_KTD.contiguous(), v_KTD.contiguous()
        q = q.view(-1, groups, tokens, width)
        out = torch.empty_like(q)
        trains = any(ctx.needs_input_grad)
        kept: list[Tensor | None] = []
        start = 0
        for length in row.segments:
            for first, begin, end in _blocks(length, row.window):
                rows, keys = slice(start + begin, start + end), slice(start + first, start + end)
                probs = _probabilities(q[:, :, rows], k[:, keys], begin - first, row)
                out[:, :, rows] = torch.bmm(probs, v[:, keys]).unflatten(1, (groups, -1))
                kept.append(probs if trains and length <= _KEEP_UP_TO else None)
            start += length
        ctx.save_for_backward(q, k, v, out, *kept)
        ctx.row = row
        return out.view(heads, tokens, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *kept = ctx.saved_tensors
        row: _Row = ctx.row
        groups = q.shape[1]
        dout = grads[0].contiguous().view_as(q)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        # d(scores) = probs * (d(probs) - sum over keys of d(probs) * probs); that sum is dout . out (FlashAttention, eq. 4).
        inner = (dout * out).sum(-1, keepdim=True)
        start, block = 0, 0
        for length in row.segments:
            for first, begin, end in _blocks(length, row.window):
                rows, keys = slice(start + begin, start + end), slice(start + first, start + end)
                probs = kept[block]
                if probs is None:
                    probs = _probabilities(q[:, :, rows], k[:, keys], begin - first, row)
                d = dout[:, :, rows].flatten(1, 2)
                dv[:, keys].baddbmm_(probs.transpose(1, 2), d)
                ds = torch.bmm(d, v[:, keys].transpose(1, 2)).sub_(inner[:, :, rows].flatten(1, 2)).mul_(probs)
                dq[:, :, rows] = torch.bmm(ds, k[:, keys]).mul_(row.scale).unflatten(1, (groups, -1))
                dk[:, keys].baddbmm_(ds.transpose(1, 2), q[:, :, rows].flatten(1, 2), alpha=row.scale)
                block += 1
            start += length
        return dq.view(-1, *dq.shape[2:]), dk, dv, None


def _probabilities(q_KGRD: Tensor, k_KLD: Tensor, before: int, row: _Row) -> Tensor:
    """[K, G * R, L]: softmax of the causal scores of R queries, `before` keys ahead of the first."""
    _, groups, rows, _ = q_KGRD.shape
    bias = _bias(rows, before, row.window, q_KGRD.dtype)
    if groups > 1:
        bias = bias.expand(groups, *bias.shape).flatten(0, 1)
    scores = torch.baddbmm(bias, q_KGRD.flatten(1, 2), k_KLD.transpose(1, 2), alpha=row.scale)
    return scores.softmax(-1)


AttentionInterface.register(PACKED, packed_attention)
