"""How the ranks share a model, its gradients and the state of its optimizer; the loop asks and does not know."""

from typing import Protocol

import torch
from torch import Tensor, nn

from engine import optim
from engine.dist.ranks import Ranks
from engine.optim import HOME, OptimizerState, StateIn, Trainable
from engine.parts import Hyperparameters


class Strategy(Protocol):
    """What the loop asks; of all ranks alike, since any of it may be done together."""

    optimizer: torch.optim.Optimizer
    stage: int
    """Of ZeRO: 0 where it divides nothing."""

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
        """Of the optimizer, whole, on the first rank, in the machine's memory: what lies there is not copied."""
        ...

    def restore(self, state: OptimizerState) -> None: ...

    def weights(self) -> dict[str, Tensor]:
        """The model's state but for frozen weights, in the same way."""
        ...


class Replicas:
    """Every rank has all of it; gradients are added up, and all take the same step. One rank is the least of them."""

    stage = 0

    def __init__(
        self, model: nn.Module, trainable: Trainable, hyper: Hyperparameters, ranks: Ranks, *, state_in: StateIn
    ) -> None:
        self.model, self.trainable, self.hyper, self.ranks = model, trainable, hyper, ranks
        ranks.spread([p.data for _, p in trainable])
        self.optimizer = optim.make_optimizer(trainable, hyper, state_in=state_in)

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
        return optim.state_of(self.optimizer, self.trainable) if self.ranks.leads else {}

    def restore(self, state: OptimizerState) -> None:
        optim.restore(self.optimizer, self.trainable, state)

    def weights(self) -> dict[str, Tensor]:
        if not self.ranks.leads:
            return {}
        return named_state(self.model, {id(weight): weight.detach().to(HOME) for _, weight in self.trainable})


def named_state(model: nn.Module, weights: dict[int, Tensor]) -> dict[str, Tensor]:
    """Weights by their ids, under all the names that each has, and what of the model's state is no weight."""
    named = dict(model.named_parameters(remove_duplicate=False))
    others = {name: held for name, held in model.state_dict().items() if name not in named}
    return others | {name: weights[id(weight)] for name, weight in named.items() if id(weight) in weights}
