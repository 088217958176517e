"""How the ranks share a model, its gradients and its optimizer's state, behind an interface for the loop."""

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
    """What the loop calls. Every rank must make the same calls, since any of them may be collective."""

    optimizer: torch.optim.Optimizer
    stage: int
    """The ZeRO stage, 0 where nothing is divided."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run the backward pass of a micro-batch; `last`: of the step's last one."""
        ...

    def reduce(self) -> Tensor:
        """Sum the gradients over the ranks and clip them; returns their norm before clipping."""
        ...

    def step(self, rate: float) -> None:
        """Update the weights at this learning rate."""
        ...

    def clear(self) -> None:
        """Free the gradients' memory."""
        ...

    def state(self) -> OptimizerState:
        """Return the part of the optimizer's state that this rank saves, in the machine's memory, copied only if needed.

        Values are whole tensors, or a `Piece` of one (engine.shards). All ranks together have the whole state; those that
        share the first one's disk have all but what only the others hold.
        """
        ...

    def restore(self, state: Stored) -> None:
        """Take this rank's part of a state, however many ranks saved it."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return the model's state without frozen weights, as a whole, in this machine's memory, on the first rank."""
        ...


class Replicas:
    """Data parallelism: every rank has the whole model, gradients are summed, and all take the same step.

    A run in a single process is the case of one rank.
    """

    stage = 0

    def __init__(
        self, model: nn.Module, trainable: Trainable, hyper: Hyperparameters, ranks: Ranks, *, state_in: LiesIn
    ) -> None:
        self.model, self.trainable, self.hyper, self.ranks = model, trainable, hyper, ranks
        ranks.spread([p.data for _, p in trainable])
        self.optimizer = optim.make_optimizer(trainable, hyper, state_in=state_in)
        self.saving = ranks.here_count
        """How many of the ranks share the first one's disk."""

    def backward(self, loss: Tensor, *, last: bool) -> None:  # noqa: ARG002 - other strategies need it
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
        """Return the names of the weights whose state this rank saves, a share of what all ranks hold."""
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
    """Divide the names into shares of about one size, beside what each already holds; the same result on each rank."""
    shares, held = [set[str]() for _ in held], [*held]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        least = held.index(min(held))
        shares[least].add(name)
        held[least] += sizes[name]
    return shares


def named_state(model: nn.Module, weights: dict[int, Tensor]) -> dict[str, Tensor]:
    """Return weights, given by their ids, under all the names of each, and the state of the model that is no weight."""
    named = dict(model.named_parameters(remove_duplicate=False))
    others = {name: held for name, held in model.state_dict().items() if name not in named}
    return others | {name: weights[id(weight)] for name, weight in named.items() if id(weight) in weights}
