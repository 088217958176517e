"""Differentiable collectives: the exchanges of a team in a forward pass, and of gradients in the backward pass."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.dist.ranks import Ranks


def enters(x: Tensor, team: Ranks) -> Tensor:
    """Return `x`, which is the same on all ranks; in the backward pass, the ranks' gradients are summed."""
    return _Enters.apply(x, team)  # type: ignore[return-value]


def leaves(x: Tensor, team: Ranks) -> Tensor:
    """Return the sum of the ranks' `x`; its gradient is the same on all ranks and passes unchanged."""
    return _Leaves.apply(x, team)  # type: ignore[return-value]


def exchanged(x: Tensor, team: Ranks, cut: int, joined: int) -> Tensor:
    """Return `x` cut along dimension `cut`, one piece for each rank, with the pieces received joined along `joined`."""
    return _Exchanged.apply(x, team, cut, joined)  # type: ignore[return-value]


def collected(named: Mapping[str, Tensor], team: Ranks) -> dict[str, Tensor]:
    """Collect the tensors of all ranks, in this machine's memory, on the team's first; others return their own.

    A name that several ranks have is taken from the first of them.
    """
    layouts = team.gather([(name, tensor.shape, tensor.dtype) for name, tensor in named.items()])
    found, known = dict(named), {name for name, *_ in layouts[0]}
    for rank, layout in enumerate(layouts[1:], 1):
        new = [entry for entry in layout if entry[0] not in known]
        known.update(name for name, *_ in new)
        if team.leads:
            received = {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in new}
            team.receive([*received.values()], rank)
            found |= received
        elif team.rank == rank:
            team.send([named[name] for name, *_ in new], 0)
    return found


class _Enters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Ranks) -> Tensor:
        ctx.team = team
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _summed(grads[0], ctx.team), None


class _Leaves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Ranks) -> Tensor:  # noqa: ARG004 - as autograd calls it
        return _summed(x, team)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG004 - as above
        return grads[0], None


class _Exchanged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Ranks, cut: int, joined: int) -> Tensor:
        ctx.exchange = team, cut, joined
        return _swap(x, team, cut, joined)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        team, cut, joined = ctx.exchange
        return _swap(grads[0], team, joined, cut), None, None, None


def _summed(x: Tensor, team: Ranks) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=team.group)
    return total


def _swap(x: Tensor, team: Ranks, cut: int, joined: int) -> Tensor:
    sent = torch.stack(x.chunk(team.count, cut))
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=team.group)
    return torch.cat(received.unbind(), joined)
