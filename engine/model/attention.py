"""Causal attention over one flat row of packed documents; none attends to another.

Registered with transformers under `PACKED`, so that every decoder which speaks its AttentionInterface
trains on packed rows without a mask. Shapes: H query heads, K key/value heads, G = H / K, T tokens of
the flat row, D head width, L tokens of one document.
"""

from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from engine.errors import SpecError
from engine.model import flash, kernels

PACKED = "trainyard_packed"

_BLOCK = 256
"""Query rows worked on at once: bounds the memory of long documents and skips most of what causality hides."""
_KEEP_UP_TO = 512
"""Documents up to this length keep their probabilities for the backward pass; longer ones compute them again."""


class _Document(NamedTuple):
    """Where a document's own tokens lie in the flat row, and those of another that it begins with."""

    own: slice
    prefix: slice
    asked: int = 0
    """The first of its own tokens whose output anybody wants."""

    @property
    def shared(self) -> int:
        return self.prefix.stop - self.prefix.start

    @property
    def length(self) -> int:
        return self.shared + self.own.stop - self.own.start

    def whole(self, states: Tensor) -> Tensor:
        """Of states [K, T, D] those of all that the document holds [K, L, D]; a view where it has no prefix."""
        own = states[:, self.own]
        return torch.cat([states[:, self.prefix], own], dim=1) if self.shared else own

    def put_back(self, states_KTD: Tensor, whole_KLD: Tensor) -> None:
        """What was added to `whole` of the states goes to where it was taken from."""
        if self.shared:
            states_KTD[:, self.prefix] = whole_KLD[:, : self.shared]
            states_KTD[:, self.own] = whole_KLD[:, self.shared :]


class Row(NamedTuple):
    """How a flat row is attended to: its documents, the scores' scale, the reach of a sliding window."""

    documents: tuple[_Document, ...]
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
    prefixes: tuple[tuple[int, int], ...] = (),
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each document of a flat row: query [1, H, T, D] to output [1, T, H, D].

    `segments` are the documents' own tokens; they add up to T. `prefixes` are the (begin, end) of earlier
    tokens of the row that a document sees ahead of its own, as if they were repeated there. Attention dropout
    is not applied: a base model's own dropout is off in this engine.
    """
    if softcap is not None or s_aux is not None:
        raise SpecError(
            "attention_unsupported",
            f"{type(module).__name__} caps its scores or has attention sinks, which packed attention does not do",
            "Use a model of the Llama, Mistral, Qwen or GPT-2 family.",
        )
    assert attention_mask is None, "packed rows carry segments, not masks"
    assert sum(segments) == query.shape[2], "segments must cover the row"
    documents = documents_of(segments, prefixes)
    row = Row(documents, query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window)
    # Rotary positions are computed in fp32 under autocast and pull query and key up with them.
    dtype = torch.get_autocast_dtype(query.device.type) if torch.is_autocast_enabled(query.device.type) else value.dtype
    q, k, v = (states[0].to(dtype) for states in (query, key, value))
    path = flash.path_on(q.device, dtype, q.shape[-1])
    if path == "bmm":
        out_HTD: Tensor = _PerDocument.apply(q, k, v, row)  # type: ignore[assignment]
    elif path == "sdpa":
        out_HTD = _sdpa_per_document(q, k, v, row)
    else:
        spans = flash.spans_of(segments, prefixes, q.device)
        out_HTD = flash.attend((q, k, v), spans, row.scale, row.window, flash.kernel_of(path))
    return out_HTD.transpose(0, 1)[None], None


@lru_cache(maxsize=8)
def documents_of(
    segments: tuple[int, ...], prefixes: tuple[tuple[int, int], ...], asked: tuple[int, ...] = ()
) -> tuple[_Document, ...]:
    """`asked`: the first of each document's own tokens whose output is wanted; all of them when left out."""
    starts = accumulate(segments, initial=0)
    nothing = ((0, 0),) * len(segments)
    spans = zip(starts, segments, prefixes or nothing, asked or (0,) * len(segments), strict=False)
    return tuple(
        _Document(slice(start, start + length), slice(*prefix), first) for start, length, prefix, first in spans
    )


def _sdpa_per_document(q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, row: Row) -> Tensor:
    """One call of torch's fused kernels a document: on a GPU what `flash` has no kernel for."""
    outs = []
    for document in row.documents:
        hidden = None
        if document.shared or (row.window is not None and document.length > row.window):
            hidden = _visible(document.length - document.shared, document.length, row.window, q_HTD.device)
        outs.append(
            functional.scaled_dot_product_attention(
                q_HTD[None, :, document.own],
                document.whole(k_KTD)[None],
                document.whole(v_KTD)[None],
                attn_mask=hidden,
                is_causal=hidden is None,
                scale=row.scale,
                enable_gqa=q_HTD.shape[0] != k_KTD.shape[0],
            )
        )
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


def _blocks(document: _Document, window: int | None) -> list[tuple[slice, slice, int]]:
    """(queries in the flat row, keys in the document, how many keys are ahead of the first query) of each block."""
    blocks = []
    back = document.own.start - document.shared
    for begin in range(document.shared + document.asked, document.length, _BLOCK):
        end = min(document.length, begin + _BLOCK)
        first = 0 if window is None else max(0, begin - window + 1)
        blocks.append((slice(back + begin, back + end), slice(first, end), begin - first))
    return blocks


class _PerDocument(torch.autograd.Function):
    """`attend` as autograd knows it."""

    @staticmethod
    def forward(ctx: Any, q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, row: Row) -> Tensor:
        q, k, v = q_HTD.contiguous(), k_KTD.contiguous(), v_KTD.contiguous()
        out, kept = attend(q, k, v, row, keeps=any(ctx.needs_input_grad))
        ctx.save_for_backward(q, k, v, *kept)
        ctx.row = row
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        return *attend_back(grads[0], (q, k, v), kept, ctx.row), None


def attend(q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, row: Row, *, keeps: bool) -> tuple[Tensor, list[Tensor | None]]:
    """([H, T, D] laid out as [T, H, D], the probabilities for the way back, block by block).

    bmm attention with its own backward: on the CPU several times quicker than the fused kernels. Grouped queries
    are folded into the rows, [K, G * rows, D], so keys and values are never repeated and their gradients add up
    inside the matmul.
    """
    heads, tokens, width = q_HTD.shape
    groups = heads // len(k_KTD)
    q = q_HTD.view(-1, groups, tokens, width)
    flat = q.new_empty(tokens, heads, width).transpose(0, 1)
    out = flat.unflatten(0, (-1, groups))
    kept: list[Tensor | None] = []
    for document in row.documents:
        whole_k, whole_v = document.whole(k_KTD), document.whole(v_KTD)
        for rows, keys, before in _blocks(document, row.window):
            probs = _probabilities(q[:, :, rows], whole_k[:, keys], before, row)
            out[:, :, rows] = torch.bmm(probs, whole_v[:, keys]).unflatten(1, (groups, -1))
            kept.append(probs if keeps and document.length <= _KEEP_UP_TO else None)
    return flat, kept


def attend_back(
    dout_HTD: Tensor, states: tuple[Tensor, Tensor, Tensor], kept: list[Tensor | None], row: Row
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v, which `states` are."""
    q_HTD, k, v = states
    groups = len(q_HTD) // len(k)
    q, dout = (x.unflatten(0, (-1, groups)) for x in (q_HTD, dout_HTD.contiguous()))
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    saved = iter(kept)
    for document in row.documents:
        whole_k, whole_v = document.whole(k), document.whole(v)
        whole_dk, whole_dv = document.whole(dk), document.whole(dv)
        for rows, keys, before in _blocks(document, row.window):
            probs = next(saved)
            if probs is None:
                probs = _probabilities(q[:, :, rows], whole_k[:, keys], before, row)
            d = dout[:, :, rows].flatten(1, 2)
            whole_dv[:, keys].baddbmm_(probs.transpose(1, 2), d)
            dprobs = torch.bmm(d, whole_v[:, keys].transpose(1, 2))
            ds = _scores_back(dprobs, probs, (rows.stop - rows.start, before, row.window or 0), row.scale)
            dq[:, :, rows] = torch.bmm(ds, whole_k[:, keys]).unflatten(1, (groups, -1))
            whole_dk[:, keys].baddbmm_(ds.transpose(1, 2), q[:, :, rows].flatten(1, 2))
        document.put_back(dk, whole_dk)
        document.put_back(dv, whole_dv)
    return dq.flatten(0, 1), dk, dv


def _probabilities(q_KGRD: Tensor, k_KLD: Tensor, before: int, row: Row) -> Tensor:
    """[K, G * R, L]: softmax of the causal scores of R queries, `before` keys ahead of the first."""
    _, groups, rows, _ = q_KGRD.shape
    queries, keys = q_KGRD.flatten(1, 2), k_KLD.transpose(1, 2)
    if kernels.take(q_KGRD):
        return kernels.kernels().softmax(torch.bmm(queries, keys), (rows, before, row.window or 0), row.scale)
    bias = _bias(rows, before, row.window, q_KGRD.dtype)
    if groups > 1:
        bias = bias.expand(groups, *bias.shape).flatten(0, 1)
    return torch.baddbmm(bias, queries, keys, alpha=row.scale).softmax(-1)


def _scores_back(dprobs: Tensor, probs: Tensor, span: tuple[int, int, int], scale: float) -> Tensor:
    """The gradient of the scores before they are scaled; it takes the place of that of the probabilities."""
    if kernels.take(probs):
        return kernels.kernels().softmax_back(dprobs, probs, span, scale)
    inner = (dprobs * probs).sum(-1, keepdim=True)
    return dprobs.sub_(inner).mul_(probs).mul_(scale)


AttentionInterface.register(PACKED, packed_attention)
