"""How the ranks share a model, its gradients and the state of its optimizer; the loop asks and does not know."""

from typing import Any

import torch
from torch import Tensor

from engine import optim
from engine.dist.ranks import Ranks
from engine.optim import Trainable
from engine.parts import Hyperparameters


class Replicas:
    """Every rank has all of it; gradients are added up, and all take the same step. One rank is the least of them."""

    def __init__(self, trainable: Trainable, hyper: Hyperparameters, ranks: Ranks, *, offload: bool) -> None:
        self.trainable, self.hyper, self.ranks = trainable, hyper, ranks
        ranks.spread([p.data for _, p in trainable])
        self.optimizer = optim.make_optimizer(trainable, hyper, offload=offload)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce(self) -> Tensor:
        """The step's gradients over all ranks, clipped; returns their norm before."""
        for _, weight in self.trainable if self.ranks.count > 1 else ():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.ranks.add_up([p.grad for _, p in self.trainable if p.grad is not None])
        return optim.clip(self.trainable, self.hyper.max_grad_norm)

    def step(self, rate: float) -> None:
        optim.set_rate(self.optimizer, rate)
        self.optimizer.step()

    def clear(self) -> None:
        """Give the gradients' memory back."""
        optim.clear(self.trainable)

    def state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def adopt(self, state: dict[str, Any]) -> None:
        """Go on with the moments of another run."""
        optim.adopt(self.optimizer, state)
