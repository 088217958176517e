"""Expert parallelism: of a mixture of experts each rank of a team holds some, and all ranks work on the same rows.

Routers, attention and all else are whole on each. A rank does what its own experts have to do for the tokens, and the
team adds up what comes of it (engine.model.experts).
"""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from engine.dist.ranks import Ranks
from engine.model.experts import TEAM


def divide_experts(model: nn.Module, team: Ranks) -> None:
    assert team.group is not None, "a team is a group of its own"
    mesh = DeviceMesh.from_group(team.group, next(model.parameters()).device.type)
    for module in model.modules():
        if not isinstance(module, MixtralExperts):
            continue
        setattr(module, TEAM, team)
        for name, weight in list(module.named_parameters()):
            part = distribute_tensor(weight.detach(), mesh, [Shard(0)], src_data_rank=None)
            local = part._local_tensor  # noqa: SLF001 - as in engine.dist.tensor
            local.data = local.data.clone()
            setattr(module, name, nn.Parameter(part, requires_grad=weight.requires_grad))
