"""How the ranks share a model, its gradients and the state of its optimizer; the loop asks and does not know."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from engine import optim
from engine.dist.ranks import Ranks
from engine.offload import HOME, LiesIn
from engine.optim import OptimizerState, Trainable
from engine.parts import Hyperparameters
from engine.shards import Stored


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
        """What of the optimizer's this rank is to save, in the machine's memory: what lies there is not copied.

        Values are whole, or a `Piece` of what is (engine.shards). All ranks together have all of it, and those that share
        the first one's disk all but what the others alone hold.
        """
        ...

    def restore(self, state: Stored) -> None:
        """Take what is this rank's of a state that any ranks have saved."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """The model's state but for frozen weights, whole, on the first rank, in the same memory."""
        ...


class Replicas:
    """Every rank has all of it; gradients are added up, and all take the same step. One rank is the least of them."""

    stage = 0

    def __init__(
        self, model: nn.Module, trainable: Trainable, hyper: Hyperparameters, ranks: Ranks, *, state_in: LiesIn
    ) -> None:
        self.model, self.trainable, self.hyper, self.ranks = model, trainable, hyper, ranks
        ranks.spread([p.data for _, p in trainable])
        self.optimizer = optim.make_optimizer(trainable, hyper, state_in=state_in)
        self.saving = ranks.here_count
        """So many of the ranks share the first one's disk."""

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
        return optim.state_of(self.optimizer, self.trainable, self._to_save())

    def _to_save(self) -> set[str]:
        """Names of what all hold alike: each saves a share of it."""
        if self.ranks.rank >= self.saving:
            return set()
        return dealt({name: p.numel() for name, p in self.trainable}, [0] * self.saving)[self.ranks.rank]

    def restore(self, state: Stored) -> None:
        optim.restore(self.optimizer, self.trainable, state)

    def weights(self) -> dict[str, Tensor]:
        if not self.ranks.leads:
            return {}
        return named_state(self.model, {id(weight): weight.detach().to(HOME) for _, weight in self.trainable})


def dealt(sizes: Mapping[str, int], held: Sequence[int]) -> list[set[str]]:
    """A share of the names for each that holds so much already, so that all come to about one size; alike on each rank."""
    shares, held = [set[str]() for _ in held], [*held]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        least = held.index(min(held))
        shares[least].add(name)
        held[least] += sizes[name]
    return shares


def named_state(model: nn.Module, weights: dict[int, Tensor]) -> dict[str, Tensor]:
    """Weights by their ids, under all the names that each has, and what of the model's state is no weight."""
    named = dict(model.named_parameters(remove_duplicate=False))
    others = {name: held for name, held in model.state_dict().items() if name not in named}
    return others | {name: weights[id(weight)] for name, weight in named.items() if id(weight) in weights}
