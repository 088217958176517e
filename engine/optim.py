"""AdamW over fp32 master weights (Loshchilov and Hutter 2019, arXiv:1711.05101), its state in 32 or 8 bits."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.optim.adamw import AdamW8bit
from torch import nn

from engine.errors import SpecError
from engine.offload import HOME, AdamWOnDisk, LiesIn
from engine.parts import Hyperparameters

Trainable = list[tuple[str, nn.Parameter]]
OptimizerState = dict[str, dict[str, Any]]
"""The optimizer's state of each weight, by the weight's name."""
SavedState = Mapping[str, Mapping[str, Any]]
"""State to be restored: the optimizer may keep the tensors that it takes."""
_WRAPPED = "__bnb_optimizer_quant_state__"
"""The key that bitsandbytes keeps 8-bit state under in a state dict."""


def make_optimizer(
    trainable: Trainable, hyperparameters: Hyperparameters, *, state_in: LiesIn = None
) -> torch.optim.Optimizer:
    """Make the optimizer. Weight decay applies to matrices only: norms and biases have no scale to shrink.

    `adamw_8bit` keeps both moments in blocks of 256 8-bit numbers (Dettmers et al. 2022, arXiv:2110.02861);
    tensors under 4,096 numbers stay in 32 bits. With the state on `HOME`, a copy of the weights there is updated.
    """
    weights = [p for _, p in trainable]
    updated = [p.detach().to(HOME, copy=True) for p in weights] if state_in == HOME else weights
    groups = [
        {"params": [p for p in updated if p.ndim >= 2], "weight_decay": hyperparameters.weight_decay},
        {"params": [p for p in updated if p.ndim < 2], "weight_decay": 0.0},
    ]
    given: Any = [group for group in groups if group["params"]]
    betas = (hyperparameters.adam_beta1, hyperparameters.adam_beta2)
    optimizer: torch.optim.Optimizer
    if isinstance(state_in, Path):
        assert hyperparameters.optim == "adamw", "the spec refuses other optimizers on disk"
        optimizer = AdamWOnDisk(given, betas=betas, folder=state_in)
    elif hyperparameters.optim == "adamw_8bit":
        optimizer = AdamW8bit(given, lr=0.0, betas=betas)
    else:
        optimizer = torch.optim.AdamW(given, lr=0.0, betas=betas, fused=True)
    if state_in == HOME:
        _tie(optimizer, weights, updated)
    return optimizer


def _tie(optimizer: torch.optim.Optimizer, weights: Sequence[nn.Parameter], masters: Sequence[torch.Tensor]) -> None:
    """Copy gradients to the masters before each step, and the masters' new values to the weights after it."""

    def fetch_gradients(*_: Any) -> None:
        for weight, master in zip(weights, masters, strict=True):
            master.grad = None if weight.grad is None else weight.grad.to(HOME)
            weight.grad = None

    @torch.no_grad()
    def return_weights(*_: Any) -> None:
        for weight, master in zip(weights, masters, strict=True):
            weight.copy_(master)
            master.grad = None

    optimizer.register_step_pre_hook(fetch_gradients)
    optimizer.register_step_post_hook(return_weights)


def state_of(
    optimizer: torch.optim.Optimizer, trainable: Trainable, names: Container[str] | None = None
) -> OptimizerState:
    """Return the state on `HOME`, of the named weights or of all; tensors that are there already are not copied."""
    held, wanted = optimizer.state_dict()["state"], [name for name, _ in trainable] if names is None else names
    numbered = [(number, name) for number, name in enumerate(_in_groups(trainable)) if name in wanted]
    named = {name: held[number] for number, name in numbered if number in held}
    return {name: {key: _at_home(value) for key, value in unwrapped(state).items()} for name, state in named.items()}


def unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a weight's state with the 8-bit tensors beside the rest; bitsandbytes has them in a dict of their own."""
    return {key: value for key, value in state.items() if key != _WRAPPED} | state.get(_WRAPPED, {})


def _at_home(value: Any) -> Any:
    return value.to(HOME) if isinstance(value, torch.Tensor) else value


def restore(optimizer: torch.optim.Optimizer, trainable: Trainable, state: SavedState) -> None:
    numbered = {number: state[name] for number, name in enumerate(_in_groups(trainable)) if name in state}
    if not isinstance(optimizer, AdamWOnDisk):  # which reads one value at a time
        numbered = {number: dict(values) for number, values in numbered.items()}
    optimizer.load_state_dict({"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]})


def check_adoptable(
    optimizer: torch.optim.Optimizer, shapes: Mapping[str, torch.Size], saved: Mapping[str, Mapping[str, torch.Size]]
) -> None:
    """Check that this run can take over the moments of another run's optimizer; rates, betas and decay stay its own.

    `shapes` and `saved` are the shapes of whole tensors.

    Raises:
        SpecError: the moments are those of weights of other shapes, or of another optimizer.
    """
    moment = "state1" if isinstance(optimizer, AdamW8bit) else "exp_avg"
    if shapes != {name: held[moment] for name, held in saved.items() if moment in held}:
        raise SpecError(
            "optimizer_state_mismatch",
            "the checkpoint's optimizer state does not belong to the weights that this job trains",
            "Use the tuning and the optim of the job that saved it, or optimizer_state 'fresh'.",
        )


def _in_groups(trainable: Trainable) -> list[str]:
    """Return the names in the order in which `make_optimizer` has the weights."""
    return [name for name, p in trainable if p.ndim >= 2] + [name for name, p in trainable if p.ndim < 2]


def clip(trainable: Trainable, max_norm: float, norm: torch.Tensor | None = None) -> torch.Tensor:
    """Clip the gradients to `max_norm` (0: not at all) and return the norm before.

    `norm` is given where other ranks have further gradients.
    """
    if norm is None:
        norm = torch.nn.utils.get_total_norm([p.grad for _, p in trainable if p.grad is not None])
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_([p for _, p in trainable], max_norm, norm)
    return norm


def clear(trainable: Trainable) -> None:
    """Free the gradients."""
    for _, p in trainable:
        p.grad = None


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
