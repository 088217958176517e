"""What ranks of a team pass to one another in the midst of a pass, and what comes back on its way back."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.dist.ranks import Ranks


def enters(x: Tensor, team: Ranks) -> Tensor:
    """The same on all ranks, each of which goes on with it in its own way: their gradients are added up."""
    return _Enters.apply(x, team)  # type: ignore[return-value]


def leaves(x: Tensor, team: Ranks) -> Tensor:
    """What the ranks have made is added up, and is the same on all of them from there on."""
    return _Leaves.apply(x, team)  # type: ignore[return-value]


def exchanged(x: Tensor, team: Ranks, cut: int, joined: int) -> Tensor:
    """Cut along one dimension, a piece for each rank; what comes from them is joined along another."""
    return _Exchanged.apply(x, team, cut, joined)  # type: ignore[return-value]


def collected(named: Mapping[str, Tensor], team: Ranks) -> dict[str, Tensor]:
    """On the team's first rank what all of them have, in the machine's memory, each name once; on others their own."""
    told = team.gather([(name, tensor.shape, tensor.dtype) for name, tensor in named.items()])
    made, known = dict(named), {name for name, *_ in told[0]}
    for rank, of_rank in enumerate(told[1:], 1):
        new = [one for one in of_rank if one[0] not in known]
        known.update(name for name, *_ in new)
        if team.leads:
            here = {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in new}
            team.receive([*here.values()], rank)
            made |= here
        elif team.rank == rank:
            team.send([named[name] for name, *_ in new], 0)
    return made


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
