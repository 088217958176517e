"""Mixtures of experts of Mixtral's kind: their forward pass, and the loss that keeps all experts in use.

Shapes: T tokens of the flat row, K experts chosen for each, E experts, L layers, S documents, D hidden.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers.integrations.moe import ExpertsInterface

from engine import shape_rounding
from engine.batch_loss import BatchLoss
from engine.data.corpus import Batch
from engine.dist.collectives import enters, leaves
from engine.errors import SpecError
from engine.model.loss import part_here, with_zeros

EXPERTS = "trainyard_experts"
TEAM = "trainyard_team"
"""The attribute of a mixture's module with the ranks that divide its experts."""


def in_config(config: Any) -> int:
    """Return the number of experts in a layer; 1 for a plain MLP."""
    return getattr(config, "num_local_experts", None) or 1


def refuse_adapter(config: Any) -> None:
    """Raise SpecError if the model has experts: they are not linear layers, so PEFT cannot put adapters on them."""
    if in_config(config) > 1:
        raise SpecError(
            "experts_with_adapter",
            f"the model is a mixture of {in_config(config)} experts, which adapters do not reach",
            "Set tuning.method to 'full'.",
        )


def through_experts(module: Any, x_TD: Tensor, index_TK: Tensor, share_TK: Tensor) -> Tensor:
    """Return [T, D]: the outputs of the experts chosen for each token, weighted by their shares.

    Registered with transformers under `EXPERTS`. Of its own implementations, one ignores autocast and multiplies in
    fp32, and the other allocates the gradients of all experts once for each of them.
    """
    team: Any = getattr(module, TEAM, None)
    if team is None:
        return _through(module, x_TD, index_TK, share_TK)
    x_TD, share_TK = enters(x_TD, team), enters(share_TK, team)
    first = team.rank * len(part_here(module.down_proj))
    return leaves(_through(module, x_TD, index_TK - first, share_TK), team)


def _through(module: Any, x_TD: Tensor, index_TK: Tensor, share_TK: Tensor) -> Tensor:
    """Compute the experts of this rank, counted from 0; all others contribute zeros.

    The tokens of an expert are adjacent and padded as all lengths are (engine.shape_rounding).
    """
    count, device = index_TK.shape[1], x_TD.device.type
    weights = [part_here(weight) for weight in (module.gate_up_proj, module.down_proj)]
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weights[0].dtype
    gate_up, down = (weight.to(dtype).unbind() for weight in weights)
    chosen = index_TK.flatten()
    chosen = chosen.where((chosen >= 0) & (chosen < len(down)), len(down))
    rows = chosen.bincount(minlength=len(down)).tolist()[: len(down)]
    taken = chosen.argsort(stable=True)[: sum(rows)]
    x = x_TD.to(dtype)[:, None].expand(-1, count, -1).flatten(0, 1).index_select(0, taken)
    step = shape_rounding.step_of(device, dtype.itemsize)
    made = [
        _mlp(with_zeros(part, shape_rounding.rows(len(part), step)), into, out_of, module.act_fn)[: len(part)]
        for part, into, out_of in zip(x.split(rows), gate_up, down, strict=True)
    ]
    y_TKD = x.new_zeros(len(chosen), x.shape[1]).index_copy(0, taken, torch.cat(made)).unflatten(0, (-1, count))
    return (y_TKD * share_TK[..., None]).sum(1).to(x_TD.dtype)


def _mlp(x: Tensor, gate_up: Tensor, down: Tensor, act: Any) -> Tensor:
    gate, up = functional.linear(x, gate_up).chunk(2, dim=-1)
    return functional.linear(act(gate) * up, down)


class Balance(NamedTuple):
    """Each document's balance loss, averaged over layers: 1 if tokens go to all experts alike, E if all to one."""

    loss_S: Tensor
    load_SE: Tensor
    """The share of the routed tokens that each expert gets."""


def balance_of(routed: Sequence[Tensor], batch: Batch, count: int) -> Balance:
    """Return the balance from the routers' logits [T, E] of all layers; `count` experts are chosen for each token.

    The loss is E * sum_i(f_i * P_i), with f_i the share of tokens that expert i gets and P_i its mean probability,
    through which the gradient flows (Switch Transformer, arXiv:2101.03961, equations 4-6). It is taken over each
    document by itself, as DeepSeek-V3's sequence-wise loss is (arXiv:2412.19437, equations 17-20), and not over a batch:
    f_i * P_i of a batch is not a sum over its documents, so packing, accumulation and ranks would each change it.
    Tokens that only fill the row are left out.
    """
    probs_TLE = torch.stack([logits[: batch.tokens].float() for logits in routed], dim=1).softmax(-1)
    load_TLE = torch.zeros_like(probs_TLE).scatter_(-1, probs_TLE.topk(count).indices, 1.0 / count)
    lengths_S = torch.tensor(batch.segments, device=probs_TLE.device)
    mean_SLE, load_SLE = (
        torch.segment_reduce(each, "mean", lengths=lengths_S, axis=0) for each in (probs_TLE, load_TLE)
    )
    experts = probs_TLE.shape[-1]
    return Balance(experts * (mean_SLE * load_SLE).sum(-1).mean(1), load_SLE.mean(1))


def balanced(scored: BatchLoss, routed: Sequence[Tensor], batch: Batch, config: Any) -> BatchLoss:
    """Add the balance loss of each document, weighted by its number of labels, to the total that is optimized.

    The reported loss stays that of the labels.
    """
    balance = balance_of(routed, batch, config.num_experts_per_tok)
    weight_S = torch.tensor(batch.label_counts, dtype=torch.float32, device=scored.total.device)
    loss = (weight_S * balance.loss_S).sum()
    loads_E = (weight_S[:, None] * balance.load_SE).sum(0)
    figures = {"balance_loss": loss.detach()}
    figures |= {f"expert_load/{expert}": load for expert, load in enumerate(loads_E.unbind())}
    total = scored.total + config.router_aux_loss_coef * loss
    return scored._replace(total=total, reported=scored.total, figures=scored.figures | figures)


ExpertsInterface.register(EXPERTS, through_experts)
