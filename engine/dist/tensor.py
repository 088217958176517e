"""Tensor parallelism: each rank of a team holds a part of every linear layer, and all work on the same rows.

Shoeybi et al. 2019, arXiv:1909.08053, with torch's DTensor. The first layers of a block (q, k, v, gate, up) are divided
by their outputs, so that each rank has heads and a part of the MLP of its own; the last ones (o, down) by their inputs,
and the team sums their results. Norms, embedding and head are whole on each rank.
"""

from collections.abc import Iterator
from typing import Any

from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.parallel.style import ParallelStyle

from engine.dist.parts import give_back, mesh_of
from engine.dist.ranks import Ranks
from engine.errors import SpecError
from engine.model.dropout import DocumentDropout
from engine.model.forward import decoder_of
from engine.parts.sharing import no_team


def divide_linears(model: nn.Module, team: Ranks) -> None:
    """Leave this rank its parts of the linear layers of a decoder of the Llama family, with or without adapters."""
    mesh = mesh_of(team, model)
    for layer in decoder_of(model).model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for module in (*attention.children(), *mlp.children()):
            _check(module, team.count)
        for module in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            for linear in _divided_by_outputs(module):
                _divide(linear, ColwiseParallel(), mesh)
        for module in (attention.o_proj, mlp.down_proj):
            for linear in _divided_by_inputs(module):
                _divide(linear, RowwiseParallel(), mesh)
            for dropout in module.modules():
                if isinstance(dropout, DocumentDropout):
                    dropout.columns = (team.rank, team.count)


def _check(module: Any, processes: int) -> None:
    """Raise SpecError if the module cannot be divided: an adapter that the job continues may differ from its spec."""
    if isinstance(module, ModulesToSaveWrapper) and isinstance(module.original_module, nn.Linear):
        why = "modules_to_save has a second copy of linear layers, which is trained whole"
    elif getattr(module, "lora_variant", None):
        why = "the adapter is a variant of LoRA (DoRA)"
    else:
        return
    raise SpecError(*no_team("tp_size", processes, why))


def _divided_by_outputs(module: Any) -> Iterator[nn.Module]:
    """Yield the linear layers whose outputs are the module's: of an adapter, B."""
    yield getattr(module, "base_layer", module)
    yield from getattr(module, "lora_B", {}).values()


def _divided_by_inputs(module: Any) -> Iterator[nn.Module]:
    """Yield the linear layers whose inputs are the module's: of an adapter, A."""
    yield getattr(module, "base_layer", module)
    yield from getattr(module, "lora_A", {}).values()


def _divide(linear: nn.Module, style: ParallelStyle, mesh: DeviceMesh) -> None:
    """Divide a linear layer. All ranks have the same weights, so each cuts out its part by itself."""
    parallelize_module(linear, mesh, style, src_data_rank=None)
    for weight in linear.parameters():
        if isinstance(weight, DTensor):
            give_back(weight)
