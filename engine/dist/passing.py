"""What ranks of a team pass to one another in the midst of a pass, and what comes back on its way back."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from engine.dist.ranks import Ranks, told_as_lost

K = TypeVar("K", bound=Hashable)


def enters(x: Tensor, team: Ranks) -> Tensor:
    """The same on all ranks, each of which goes on with it in its own way: their gradients are added up."""
    return _Enters.apply(x, team)  # type: ignore[return-value]


def leaves(x: Tensor, team: Ranks) -> Tensor:
    """What the ranks have made is added up, and is the same on all of them from there on."""
    return _Leaves.apply(x, team)  # type: ignore[return-value]


def exchanged(x: Tensor, team: Ranks, cut: int, joined: int) -> Tensor:
    """Cut along one dimension, a piece for each rank; what comes from them is joined along another."""
    return _Exchanged.apply(x, team, cut, joined)  # type: ignore[return-value]


def collected(named: Mapping[K, Any], team: Ranks) -> dict[K, Any]:
    """On the team's first rank what all of them have, each name once, in the machine's memory; on others their own."""
    told = team.gather([(key, *_form(value)) for key, value in named.items()])
    made = dict(named)
    known = {key for key, *_ in told[0]}
    for rank, of_rank in enumerate(told[1:], 1):
        for key, shape, form in of_rank:
            if key in known:
                continue
            known.add(key)
            if team.leads:
                made[key] = form if shape is None else torch.empty(shape, dtype=form)
            with told_as_lost():
                if shape is not None and team.leads:
                    dist.recv(made[key], group=team.group, group_src=rank)
                elif shape is not None and team.rank == rank:
                    dist.send(named[key].contiguous(), group=team.group, group_dst=0)
    return made


def _form(value: Any) -> tuple[torch.Size | None, Any]:
    """Of a tensor its shape and type; of all else itself."""
    return (value.shape, value.dtype) if isinstance(value, Tensor) else (None, value)


class _Enters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Ranks) -> Tensor:
        ctx.team = team
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _added_up(grads[0], ctx.team), None


class _Leaves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Ranks) -> Tensor:  # noqa: ARG004 - as autograd calls it
        return _added_up(x, team)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG004 - as above
        return grads[0], None


class _Exchanged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Ranks, cut: int, joined: int) -> Tensor:
        ctx.exchange = team, cut, joined
        return _swapped(x, team, cut, joined)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        team, cut, joined = ctx.exchange
        return _swapped(grads[0], team, joined, cut), None, None, None


def _added_up(x: Tensor, team: Ranks) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=team.group)
    return total


def _swapped(x: Tensor, team: Ranks, cut: int, joined: int) -> Tensor:
    given = torch.stack(x.chunk(team.count, cut))
    taken = torch.empty_like(given)
    dist.all_to_all_single(taken, given, group=team.group)
    return torch.cat(taken.unbind(), joined)
