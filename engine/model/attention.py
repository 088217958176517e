"""Causal attention over one flat row of packed documents; none attends to another.

Registered with transformers under `PACKED`, so that every decoder which speaks its AttentionInterface
trains on packed rows without a mask. Shapes: H query heads, K key/value heads, G = H / K, T tokens of
the flat row, D head width, L tokens of one document.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from engine import shape_rounding
from engine.errors import SpecError
from engine.model import flash, kernels
from engine.model.context import Context
from engine.model.documents import BLOCK, Block, Document, documents_of

PACKED = "trainyard_packed"

_KEEP_UP_TO = 512
"""Documents up to this length keep their probabilities for the backward pass; longer ones compute them again."""


class Row(NamedTuple):
    """A flat row for attention: its documents, the scale of the scores, and the reach of a sliding window."""

    documents: tuple[Document, ...]
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
    context: Context | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each document of a flat row: query [1, H, T, D] to output [1, T, H, D].

    `segments` are the numbers of the documents' own tokens; they add up to T, or on the CPU to less: tokens behind them
    attend to nothing and have an output of 0. `prefixes` are the (begin, end) of earlier tokens of the row that a
    document sees ahead of its own, as if they were repeated there. In a team, `query` has the tokens of one rank
    (Context). Attention dropout is not applied: the base model's own dropout is off in this engine.
    """
    if softcap is not None or s_aux is not None:
        raise SpecError(
            "attention_unsupported",
            f"{type(module).__name__} caps its scores or has attention sinks, which packed attention does not do",
            "Use a model of the Llama, Mistral, Qwen or GPT-2 family.",
        )
    assert attention_mask is None, "packed rows carry segments, not masks"
    documents = documents_of(segments, prefixes)
    row = Row(documents, query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window)
    # Under autocast, rotary positions are computed in fp32, and query and key are fp32 after them.
    dtype = torch.get_autocast_dtype(query.device.type) if torch.is_autocast_enabled(query.device.type) else value.dtype
    q, k, v = (states[0].to(dtype) for states in (query, key, value))
    if context is not None and not context.alone:
        q, k, v = (context.heads(states)[:, : sum(segments)] for states in (q, k, v))
    assert sum(segments) <= q.shape[1], "segments lie in the row"
    path = flash.path_on(q.device, dtype, q.shape[-1])
    if path == "bmm":
        out_HTD: Tensor = _PerDocument.apply(q, k, v, row)  # type: ignore[assignment]
    elif path == "sdpa":
        out_HTD = _sdpa_per_document(q, k, v, row)
    else:
        spans = flash.spans_of(segments, prefixes, q.device)
        out_HTD = flash.attend((q, k, v), spans, row.scale, row.window, flash.kernel_of(path))
    if context is not None and not context.alone:
        missing = context.team.count * query.shape[2] - out_HTD.shape[1]
        out_HTD = context.tokens(functional.pad(out_HTD, (0, 0, 0, missing)))
    return out_HTD.transpose(0, 1)[None], None


def _sdpa_per_document(q_HTD: Tensor, k_KTD: Tensor, v_KTD: Tensor, row: Row) -> Tensor:
    """Call torch's fused kernels once for each document: on a GPU, where `flash` has no kernel."""
    outs = []
    for document in row.documents:
        hidden = None
        if document.shared or (row.window is not None and document.length > row.window):
            hidden = _visible(document.length - document.shared, document.length, row.window, q_HTD.device)
        outs.append(
            functional.scaled_dot_product_attention(
                q_HTD[None, :, document.own],
                document.cut(k_KTD, 0, document.length)[None],
                document.cut(v_KTD, 0, document.length)[None],
                attn_mask=hidden,
                is_causal=hidden is None,
                scale=row.scale,
                enable_gqa=q_HTD.shape[0] != k_KTD.shape[0],
            )
        )
    return torch.cat(outs, dim=2)[0]


def _visible(rows: int, width: int, window: int | None, device: torch.device) -> Tensor:
    """Return [rows, width] booleans: which of `width` keys the last `rows` positions see as queries."""
    ahead = torch.arange(width, device=device)[None] - torch.arange(width - rows, width, device=device)[:, None]
    seen = ahead <= 0
    return seen if window is None else seen & (ahead > -window)


@lru_cache(maxsize=32)
def _bias_of(reach: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """Return [BLOCK, reach + BLOCK] of 0 and -inf, with the diagonal starting at column `reach`."""
    seen = _visible(BLOCK, reach + BLOCK, window, torch.device("cpu"))
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


def _bias(rows: int, before: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """Return [rows, before + rows]: the mask of a block with `before` keys ahead of its first query, from the cache."""
    reach = 0 if before == 0 else 1 << (before - 1).bit_length()
    return _bias_of(reach, window, dtype)[:rows, reach - before : reach + rows]


class _PerDocument(torch.autograd.Function):
    """`attend` as an autograd function."""

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
    """Return ([H, T, D] laid out as [T, H, D], the probabilities for the backward pass, block by block).

    This is bmm attention with its own backward pass, on the CPU several times faster than the fused kernels. Grouped
    queries are folded into the rows, [K, G * rows, D], so keys and values are never repeated and their gradients are
    summed inside the matmul.
    """
    heads, tokens, width = q_HTD.shape
    groups = heads // len(k_KTD)
    q = q_HTD.view(-1, groups, tokens, width)
    flat = q.new_empty(tokens, heads, width).transpose(0, 1)
    flat[:, row.documents[-1].own.stop :] = 0  # tokens that only fill the row
    out = flat.unflatten(0, (-1, groups))
    kept: list[Tensor | None] = []
    for document, block in _work(row, q):
        keys, values = (document.cut(states, *block.keys) for states in (k_KTD, v_KTD))
        probs = _probabilities(document.cut(q, *block.queries), keys, block.before, row)
        seen = torch.bmm(probs, values).unflatten(1, (groups, -1))
        out[:, :, document.in_row(*block.wanted)] = seen[:, :, block.there]
        kept.append(probs if keeps and document.length <= _KEEP_UP_TO else None)
    return flat, kept


def _work(row: Row, states: Tensor) -> Iterator[tuple[Document, Block]]:
    step = shape_rounding.step_of(states.device.type, states.dtype.itemsize)
    return ((document, block) for document in row.documents for block in document.blocks(row.window, step))


def attend_back(
    dout_HTD: Tensor, states: tuple[Tensor, Tensor, Tensor], kept: list[Tensor | None], row: Row
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, which `states` are."""
    q_HTD, k, v = states
    groups = len(q_HTD) // len(k)
    q, dout = (x.unflatten(0, (-1, groups)) for x in (q_HTD, dout_HTD.contiguous()))
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for (document, block), saved in zip(_work(row, q), kept, strict=True):
        keys, values = (document.cut(states, *block.keys) for states in (k, v))
        queries = document.cut(q, *block.queries)
        probs = _probabilities(queries, keys, block.before, row) if saved is None else saved
        d = _wanted(dout, document, block).flatten(1, 2)
        document.add(dv, *block.keys, probs.transpose(1, 2), d)
        dprobs = torch.bmm(d, values.transpose(1, 2))
        ds = _scores_back(dprobs, probs, (queries.shape[2], block.before, row.window or 0), row.scale)
        found = torch.bmm(ds, keys).unflatten(1, (groups, -1))
        dq[:, :, document.in_row(*block.wanted)] = found[:, :, block.there]
        document.add(dk, *block.keys, ds.transpose(1, 2), queries.flatten(1, 2))
    return dq.flatten(0, 1), dk, dv


def _wanted(dout_KGTD: Tensor, document: Document, block: Block) -> Tensor:
    """Return the gradients of a block's outputs, zeros for those that were not requested."""
    d = dout_KGTD[:, :, document.in_row(*block.wanted)]
    (begin, end), (first, last) = block.queries, block.wanted
    return d if block.queries == block.wanted else functional.pad(d, (0, 0, first - begin, end - last))


def _probabilities(q_KGRD: Tensor, k_KLD: Tensor, before: int, row: Row) -> Tensor:
    """Return [K, G * R, L]: the softmax of the causal scores of R queries, with `before` keys ahead of the first."""
    _, groups, rows, _ = q_KGRD.shape
    queries, keys = q_KGRD.flatten(1, 2), k_KLD.transpose(1, 2)
    if kernels.take(q_KGRD):
        return kernels.kernels().softmax(torch.bmm(queries, keys), (rows, before, row.window or 0), row.scale)
    bias = _bias(rows, before, row.window, q_KGRD.dtype)
    if groups > 1:
        bias = bias.expand(groups, *bias.shape).flatten(0, 1)
    return torch.baddbmm(bias, queries, keys, alpha=row.scale).softmax(-1)


def _scores_back(dprobs: Tensor, probs: Tensor, span: tuple[int, int, int], scale: float) -> Tensor:
    """Return the gradient of the unscaled scores; it overwrites the gradient of the probabilities."""
    if kernels.take(probs):
        return kernels.kernels().softmax_back(dprobs, probs, span, scale)
    inner = (dprobs * probs).sum(-1, keepdim=True)
    return dprobs.sub_(inner).mul_(probs).mul_(scale)


AttentionInterface.register(PACKED, packed_attention)
