"""The losses of DPO, under TRL's names and definitions, over B pairs."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.kinds.dpo.spec import DpoLoss


def _sigmoid(margins_B: Tensor, loss: DpoLoss) -> Tensor:
    """Rafailov et al. 2023 (arXiv:2305.18290), eq. 7; over averages it is `sigmoid_norm`."""
    return -logsigmoid(loss.beta * margins_B)


def _hinge(margins_B: Tensor, loss: DpoLoss) -> Tensor:
    """Zhao et al. 2023 (SLiC-HF, arXiv:2305.10425), with the margin of DPO, as in Liu et al. 2024 (arXiv:2309.06657)."""
    return (1 - loss.beta * margins_B).relu()


def _ipo(margins_B: Tensor, loss: DpoLoss) -> Tensor:
    """Azar et al. 2023 (arXiv:2310.12036), eq. 17; beta is the paper's tau."""
    return (margins_B - 1 / (2 * loss.beta)).square()


def _robust(margins_B: Tensor, loss: DpoLoss) -> Tensor:
    """Chowdhury et al. 2024 (arXiv:2403.00409): unbiased where a share of the preferences is the wrong way round."""
    right, wrong = -logsigmoid(loss.beta * margins_B), -logsigmoid(-loss.beta * margins_B)
    return ((1 - loss.label_smoothing) * right - loss.label_smoothing * wrong) / (1 - 2 * loss.label_smoothing)


LOSSES: dict[str, Callable[[Tensor, DpoLoss], Tensor]] = {
    "sigmoid": _sigmoid,
    "sigmoid_norm": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "robust": _robust,
}

AVERAGED = frozenset({"ipo", "sigmoid_norm"})
"""Losses whose log-ratios are divided by the tokens of their answer; TRL does so for ipo on its authors' advice."""
