"""Expert parallelism: each rank of a team holds some of the experts, and all ranks work on the same rows.

Routers, attention and all other modules are whole on every rank. A rank applies its own experts to the tokens, and the
team sums the results (engine.model.experts).
"""

from torch import nn
from torch.distributed.tensor import Shard, distribute_tensor
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from engine.dist.parts import give_back, mesh_of
from engine.dist.ranks import Ranks
from engine.model.experts import TEAM


def divide_experts(model: nn.Module, team: Ranks) -> None:
    """Leave this rank its share of every layer's experts."""
    mesh = mesh_of(team, model)
    for module in model.modules():
        if not isinstance(module, MixtralExperts):
            continue
        setattr(module, TEAM, team)
        for name, weight in list(module.named_parameters()):
            part = distribute_tensor(weight.detach(), mesh, [Shard(0)], src_data_rank=None)
            give_back(part)
            setattr(module, name, nn.Parameter(part, requires_grad=weight.requires_grad))
