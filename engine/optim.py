"""AdamW over fp32 master weights (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

import torch
from torch import nn

from engine.parts import Hyperparameters


def make_optimizer(trainable: list[tuple[str, nn.Parameter]], hyperparameters: Hyperparameters) -> torch.optim.AdamW:
    """Decay falls on matrices alone: norms and biases have no scale to shrink."""
    groups = [
        {"params": [p for _, p in trainable if p.ndim >= 2], "weight_decay": hyperparameters.weight_decay},
        {"params": [p for _, p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=0.0,
        betas=(hyperparameters.adam_beta1, hyperparameters.adam_beta2),
        fused=True,
    )


def clip(trainable: list[tuple[str, nn.Parameter]], max_norm: float) -> torch.Tensor:
    """Clip to `max_norm` (0: leave as they are); returns the norm before."""
    grads = [p.grad for _, p in trainable if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_([p for _, p in trainable], max_norm, norm)
    return norm


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
