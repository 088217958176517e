"""Tensor parallelism: a team of ranks holds every linear layer together and works on the same rows.

Shoeybi et al. 2019, arXiv:1909.08053, by torch's DTensor. What widens (q, k, v, gate, up) is divided by its outputs, so
that each rank has heads and a part of the MLP of its own; what narrows again (o, down) by its inputs, and the team adds
up what its ranks make of them. Norms, embedding and head are whole on each.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.parallel.style import ParallelStyle

from engine import optim
from engine.dist.ranks import Ranks, Teams
from engine.dist.strategy import Replicas, named_state
from engine.model.dropout import DocumentDropout
from engine.model.forward import decoder_of
from engine.model.loss import part_here
from engine.optim import OptimizerState, StateIn
from engine.parts import Hyperparameters

Layer: TypeAlias = Any
"""A decoder layer of the Llama family."""


class TensorParallel(Replicas):
    """See engine.dist.strategy. The optimizer works on a rank's own parts, which share their memory with the model's."""

    together = True

    def __init__(
        self, model: nn.Module, hyper: Hyperparameters, ranks: Ranks, teams: Teams, *, state_in: StateIn
    ) -> None:
        self.team, replicas = teams
        ranks.spread([p.data for p in model.parameters() if p.requires_grad])
        device = next(model.parameters()).device.type
        assert self.team.group is not None, "just made"
        mesh = DeviceMesh.from_group(self.team.group, device)
        for layer in decoder_of(model).model.layers:
            _divide(layer, mesh)
        self.weights_of_model = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        mine = [(name, nn.Parameter(part_here(p.detach()))) for name, p in self.weights_of_model]
        super().__init__(model, mine, hyper, replicas, state_in=state_in)

    def reduce(self) -> Tensor:
        shared: list[Tensor] = []
        for (name, held), (_, mine) in zip(self.weights_of_model, self.trainable, strict=True):
            mine.grad = torch.zeros_like(mine) if held.grad is None else part_here(held.grad)
            held.grad = None
            if _sees_own_heads(name):
                shared.append(mine.grad)
        self.team.add_up(shared)
        self.ranks.add_up([mine.grad for _, mine in self.trainable if mine.grad is not None])
        norm = self._norm()
        if self.hyper.max_grad_norm > 0:
            torch.nn.utils.clip_grads_with_norm_([mine for _, mine in self.trainable], self.hyper.max_grad_norm, norm)
        return norm

    def _norm(self) -> Tensor:
        """Of all gradients: parts are added up over the team, what each has whole counts once."""
        parts, whole = list[Tensor](), list[Tensor]()
        for (_, held), (_, mine) in zip(self.weights_of_model, self.trainable, strict=True):
            assert mine.grad is not None, "made by `reduce`"
            (parts if isinstance(held, DTensor) else whole).append(mine.grad)
        own = [float(torch.nn.utils.get_total_norm(grads)) ** 2 if grads else 0.0 for grads in (parts, whole)]
        return torch.tensor(self.team.totals(own[:1])[0] + own[1]).sqrt().to(self.trainable[0][1])

    def clear(self) -> None:
        super().clear()
        optim.clear(self.weights_of_model)

    def state(self) -> OptimizerState:
        if self.ranks.rank > 0:
            return {}
        held = dict(self.weights_of_model)
        mine = optim.state_of(self.optimizer, self.trainable)
        whole = {name: {key: _whole(value, held[name]) for key, value in state.items()} for name, state in mine.items()}
        return whole if self.team.leads else {}

    def restore(self, state: OptimizerState) -> None:
        held = dict(self.weights_of_model)
        mine = {
            name: {key: _part(value, held[name], self.team) for key, value in of_weight.items()}
            for name, of_weight in state.items()
        }
        super().restore(mine)

    def weights(self) -> dict[str, Tensor]:
        if self.ranks.rank > 0:
            return {}
        whole = {id(held): _whole(held.detach(), held) for _, held in self.weights_of_model}
        if not self.team.leads:
            return {}
        return named_state(self.model, {key: value.to(optim.HOME) for key, value in whole.items()})


def _divide(layer: Layer, mesh: DeviceMesh) -> None:
    attention, mlp = layer.self_attn, layer.mlp
    for module in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
        for linear in _widening(module):
            _apply(linear, ColwiseParallel(), mesh)
    for module in (attention.o_proj, mlp.down_proj):
        for linear in _narrowing(module):
            _apply(linear, RowwiseParallel(), mesh)
        for dropout in module.modules():
            if isinstance(dropout, DocumentDropout):
                dropout.columns = (mesh.get_local_rank(), mesh.size())


def _widening(module: Any) -> Iterator[nn.Module]:
    """Of an adapter, B has the outputs."""
    yield getattr(module, "base_layer", module)
    yield from getattr(module, "lora_B", {}).values()


def _narrowing(module: Any) -> Iterator[nn.Module]:
    """Of an adapter, A has the inputs."""
    yield getattr(module, "base_layer", module)
    yield from getattr(module, "lora_A", {}).values()


def _apply(linear: nn.Module, style: ParallelStyle, mesh: DeviceMesh) -> None:
    """All ranks have the same weights, so each cuts out its part by itself; the rest of it is given back."""
    parallelize_module(linear, mesh, style, src_data_rank=None)
    for weight in linear.parameters():
        if isinstance(weight, DTensor):
            local = weight._local_tensor  # noqa: SLF001 - DTensor has no other way to give it other memory
            local.data = local.data.clone()


def _sees_own_heads(name: str) -> bool:
    """A norm over heads is whole on each rank, which takes it over its own heads alone."""
    return name.endswith(("q_norm.weight", "k_norm.weight"))


def _whole(value: Any, held: Any) -> Any:
    """A rank's part of something that has the weight's shape, with the others' parts."""
    if not isinstance(held, DTensor) or not isinstance(value, Tensor) or not value.ndim:
        return value
    if not isinstance(value, DTensor):
        value = DTensor.from_local(value.to(held.device), held.device_mesh, held.placements, run_check=False)
    return value.full_tensor().to(optim.HOME)


def _part(value: Any, held: Any, team: Ranks) -> Any:
    """The other way round."""
    if not isinstance(held, DTensor) or not isinstance(value, Tensor) or not value.ndim:
        return value
    (placement,) = held.placements
    if not isinstance(placement, Shard):
        return value
    return value.chunk(team.count, placement.dim)[team.rank].contiguous()
