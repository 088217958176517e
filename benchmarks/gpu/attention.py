"""Is packed attention exact on a GPU? Outputs and gradients of every type against attention in float64.

The criterion is the largest error, compared with the unavoidable error of rounding to the type: that of plain attention
in that type, and that of the exact result once rounded. As in flash-attn's own tests, twice that is accepted.
"""

from itertools import accumulate

import torch
from torch import Tensor

from benchmarks.harness import gpu_size
from benchmarks.harness.report import emit, versions
from engine.model import flash
from engine.model.attention import packed_attention

SEGMENTS = (1, 700, 129, 64, 2000, 300)
SMALL = (1, 40, 13, 9, 30, 20)
WINDOWS = (None, 33)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ALLOWED = 2.0


def main() -> None:
    how = gpu_size.read()
    device, segments = torch.device(how.device), SMALL if how.small else SEGMENTS
    shares: dict[str, float] = {}
    paths = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        paths[name] = flash.path_on(device, dtype, 64)
        for window in WINDOWS:
            for prefixes in ((), with_prefix(segments)):
                share = error_share(device, dtype, segments, prefixes, window)
                case = f"{name}{', prefix' if prefixes else ''}{f', window {window}' if window else ''}"
                print(f"{case:<32} {paths[name]:<10} {share:.3f} of the error that rounding makes", flush=True)
                shares[name] = max(share, shares.get(name, 0.0))
    worst = max(shares.values())
    result = {
        "name": "gpu-attention",
        "ours": {name: round(share, 3) for name, share in shares.items()},
        "peer": "plain attention in the same type",
        "ratio": ALLOWED / worst,
        "goal": f"errors at most {ALLOWED:g} times those that rounding to the type makes",
        "holds": worst <= ALLOWED,
        "paths": paths,
        "versions": versions("torch", "transformers"),
    }
    emit(result, keeps=not how.small)


def with_prefix(segments: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return a row whose last document begins with most of the second."""
    return (*((0, 0),) * (len(segments) - 1), (1, segments[1]))


def error_share(
    device: torch.device,
    dtype: torch.dtype,
    segments: tuple[int, ...],
    prefixes: tuple[tuple[int, int], ...],
    window: int | None,
) -> float:
    """Return the largest error of output and gradients, each relative to its own rounding error."""
    draw = torch.Generator(device).manual_seed(0)
    shapes = [(1, heads, sum(segments), 64) for heads in (8, 2, 2, 8)]
    q, k, v, weights = (torch.randn(shape, generator=draw, device=device).to(dtype) for shape in shapes)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, _ = packed_attention(
            torch.nn.Identity(), q, k, v, None, segments=segments, prefixes=prefixes, sliding_window=window
        )
        return out.transpose(1, 2)

    hidden = ~visible(segments, prefixes, window).to(device)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        scores = (q @ keys.transpose(2, 3)) * q.shape[-1] ** -0.5
        return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values

    exact = with_gradients(plain, (q.double(), k.double(), v.double()), weights.double())
    rounded = with_gradients(plain, (q, k, v), weights)
    found = with_gradients(ours, (q, k, v), weights)
    shares = []
    for mine, theirs, right in zip(found, rounded, exact, strict=True):
        noise = furthest(theirs, right) + furthest(right.to(dtype), right)
        shares.append(furthest(mine, right) / noise)
    return max(shares)


def visible(segments: tuple[int, ...], prefixes: tuple[tuple[int, int], ...], window: int | None) -> Tensor:
    """Return the explicit mask [T, T]: which tokens of the row each token sees."""
    total = sum(segments)
    seen = torch.zeros(total, total, dtype=torch.bool)
    starts = accumulate(segments, initial=0)
    for start, length, prefix in zip(starts, segments, prefixes or ((0, 0),) * len(segments), strict=False):
        places = torch.cat([torch.arange(*prefix), torch.arange(start, start + length)])
        ahead = torch.arange(len(places))
        ahead = ahead[len(places) - length :, None] - ahead[None]
        seen[start : start + length, places] = (ahead >= 0) & (ahead < (window or total))
    return seen


def with_gradients(attend, states: tuple[Tensor, ...], weights: Tensor) -> tuple[Tensor, ...]:
    """Return (output, gradients of q, k and v)."""
    leaves = tuple(x.detach().requires_grad_() for x in states)
    out = attend(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, weights)


def furthest(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other).abs().max())


if __name__ == "__main__":
    main()
