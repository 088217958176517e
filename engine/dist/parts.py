"""Training by teams of ranks that divide a model: each rank has a part of some weights, and the others whole."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from engine import optim
from engine.dist.ranks import Ranks, Teams
from engine.dist.strategy import Replicas, dealt, named_state
from engine.model.loss import part_here
from engine.offload import HOME, LiesIn
from engine.optim import OptimizerState
from engine.parts import Hyperparameters
from engine.shards import Cut, Piece, Stored

Divide: TypeAlias = Callable[[nn.Module, Ranks], None]
"""Leaves a rank of a team its parts of a model, as DTensors that are each cut along one dimension."""


class Parts(Replicas):
    """The strategy of teams that divide the model's weights.

    The optimizer updates local tensors that share their memory with the model's weights. Ranks with the same parts, one
    of each team, sum their gradients as replicas do.
    """

    def __init__(
        self,
        model: nn.Module,
        hyper: Hyperparameters,
        ranks: Ranks,
        teams: Teams,
        divide: Divide,
        *,
        state_in: LiesIn,
    ) -> None:
        ranks.spread([p.data for p in model.parameters() if p.requires_grad])
        self.team = teams.team
        divide(model, self.team)
        self.held = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.cuts = {name: placement.dim for name, p in self.held for placement in _placements(p)}
        here = [(name, nn.Parameter(part_here(p.detach()))) for name, p in self.held]
        super().__init__(model, here, hyper, teams.replicas, state_in=state_in)
        self.saving = max(1, ranks.here_count // self.team.count)

    def reduce(self) -> Tensor:
        for (_, held), (_, here) in zip(self.held, self.trainable, strict=True):
            here.grad = torch.zeros_like(here) if held.grad is None else part_here(held.grad)
            held.grad = None
        grads = {name: here.grad for name, here in self.trainable if here.grad is not None}
        self.team.add_up([grad for name, grad in grads.items() if _sees_own_heads(name)])
        self.ranks.add_up(list(grads.values()))
        if self.trainable[0][1].is_cuda:  # kernels may sum in another order on each rank: whole weights would diverge
            self.team.spread([grad for name, grad in grads.items() if name not in self.cuts])
        return optim.clip(self.trainable, self.hyper.max_grad_norm, self._norm(grads))

    def _norm(self, grads: dict[str, Tensor]) -> Tensor:
        """Return the norm of all gradients: parts count on every rank of the team, whole weights once."""
        cut = [grad for name, grad in grads.items() if name in self.cuts]
        whole = [grad for name, grad in grads.items() if name not in self.cuts]
        of_cut, of_whole = (
            float(torch.nn.utils.get_total_norm(grads)) ** 2 if grads else 0.0 for grads in (cut, whole)
        )
        return torch.tensor(self.team.totals([of_cut])[0] + of_whole).sqrt().to(self.trainable[0][1])

    def state(self) -> OptimizerState:
        return {
            name: {key: self._as_piece(name, value) for key, value in of_weight.items()}
            for name, of_weight in super().state().items()
        }

    def _to_save(self) -> set[str]:
        """Divide parts among the ranks that have the same ones, and whole weights among all ranks."""
        if self.ranks.rank >= self.saving:
            return set()
        sizes = {name: here.numel() for name, here in self.trainable}
        of_parts = dealt({name: sizes[name] for name in self.cuts}, [0] * self.saving)
        held = [sum(sizes[name] for name in share) for share in of_parts for _ in range(self.team.count)]
        of_whole = dealt({name: size for name, size in sizes.items() if name not in self.cuts}, held)
        return of_parts[self.ranks.rank] | of_whole[self.ranks.rank * self.team.count + self.team.rank]

    def _as_piece(self, name: str, value: Any) -> Any:
        if name not in self.cuts or not isinstance(value, Tensor) or not value.ndim:
            return value
        dim, shape = self.cuts[name], [*value.shape]
        cut = Cut(dim, self.team.rank * shape[dim], shape[dim])
        shape[dim] *= self.team.count
        return Piece(tuple(shape), cut, value)

    def restore(self, state: Stored) -> None:
        sizes = {name: here.shape[self.cuts[name]] for name, here in self.trainable if name in self.cuts}
        cuts = {name: Cut(self.cuts[name], self.team.rank * size, size) for name, size in sizes.items()}
        here = {name: values.cut(cuts.get(name)) for name, values in state.items()}
        optim.restore(self.optimizer, self.trainable, here)

    def weights(self) -> dict[str, Tensor]:
        if not self.ranks.leads:
            return {}
        whole = {id(held): self._whole(name, part_here(held.detach())) for name, held in self.held}
        if not self.team.leads:
            return {}
        return named_state(self.model, {key: value.to(HOME) for key, value in whole.items()})

    def _whole(self, name: str, value: Tensor) -> Any:
        """Return a divided weight as a whole on the team's first rank; each rank must call this."""
        if name not in self.cuts:
            return value
        value = value.contiguous()
        pieces = [torch.empty_like(value) for _ in range(self.team.count)] if self.team.leads else None
        dist.gather(value, pieces, group=self.team.group, group_dst=0)
        return None if pieces is None else torch.cat(pieces, self.cuts[name])


def mesh_of(team: Ranks, model: nn.Module) -> DeviceMesh:
    """Return the team as a device mesh for DTensor."""
    assert team.group is not None, "a team is a group of its own"
    return DeviceMesh.from_group(team.group, next(model.parameters()).device.type)


def give_back(weight: DTensor) -> None:
    """Free the memory of the parts that other ranks hold: the local part is a view of the whole weight."""
    local = weight._local_tensor  # noqa: SLF001 - DTensor has no public way to replace the local tensor's memory
    local.data = local.data.clone()


def _placements(weight: nn.Parameter) -> list[Shard]:
    placed = weight.placements if isinstance(weight, DTensor) else ()
    return [placement for placement in placed if isinstance(placement, Shard)]


def _sees_own_heads(name: str) -> bool:
    """Return whether a weight is that of a norm over heads: whole on each rank, but applied to its own heads only."""
    return not {"q_norm", "k_norm"}.isdisjoint(name.split("."))
