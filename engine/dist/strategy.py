"""How the ranks share a model, its gradients and the state of its optimizer; the loop asks and does not know."""

from typing import Protocol

import torch
from torch import Tensor

from engine import optim
from engine.dist.ranks import Ranks
from engine.optim import OptimizerState, Trainable
from engine.parts import Hyperparameters


class Strategy(Protocol):
    """What the loop asks; of all ranks alike, since any of it may be done together."""

    optimizer: torch.optim.Optimizer
    stage: int
    """Of ZeRO: 0 where nothing is divided."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """`last`: of the step."""
        ...

    def reduce(self) -> Tensor:
        """Have the gradients added up over the ranks and clipped; their norm before."""
        ...

    def step(self, rate: float) -> None: ...

    def clear(self) -> None:
        """Give the gradients' memory back."""
        ...

    def state(self) -> OptimizerState:
        """Of the optimizer, whole, on the first rank."""
        ...

    def restore(self, state: OptimizerState) -> None: ...

    def weights(self) -> dict[str, Tensor] | None:
        """All that the model holds, on the first rank; None where the model itself has it."""
        ...


class Replicas:
    """Every rank has all of it; gradients are added up, and all take the same step. One rank is the least of them."""

    stage = 0

    def __init__(self, trainable: Trainable, hyper: Hyperparameters, ranks: Ranks, *, offload: bool) -> None:
        self.trainable, self.hyper, self.ranks = trainable, hyper, ranks
        ranks.spread([p.data for _, p in trainable])
        self.optimizer = optim.make_optimizer(trainable, hyper, offload=offload)

    def backward(self, loss: Tensor, *, last: bool) -> None:  # noqa: ARG002 - others reduce with the last
        loss.backward()

    def reduce(self) -> Tensor:
        for _, weight in self.trainable if self.ranks.count > 1 else ():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.ranks.add_up([p.grad for _, p in self.trainable if p.grad is not None])
        return optim.clip(self.trainable, self.hyper.max_grad_norm)

    def step(self, rate: float) -> None:
        optim.set_rate(self.optimizer, rate)
        self.optimizer.step()

    def clear(self) -> None:
        optim.clear(self.trainable)

    def state(self) -> OptimizerState:
        return optim.state_of(self.optimizer, self.trainable)

    def restore(self, state: OptimizerState) -> None:
        optim.restore(self.optimizer, self.trainable, state)

    def weights(self) -> None:
        return None
