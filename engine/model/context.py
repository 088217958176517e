"""Context parallelism: each rank of a team takes a part of every row's tokens, and in attention a part of the heads.

DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv:2309.14509: all modules but attention treat tokens independently, and
attention treats heads independently. With an exchange before attention and one after it, the same code attends over
whole rows. Shapes: T tokens of a row, N labels of it, of which a rank has n; H heads, D head width; W ranks of the team.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine import shape_rounding
from engine.data.corpus import Batch
from engine.dist.collectives import exchanged
from engine.dist.ranks import Ranks
from engine.model.dropout import DocumentDropout, LabelDropout


class Context:
    """A rank's part of every row; a team of one rank has all of it."""

    def __init__(self, team: Ranks | None = None) -> None:
        self.team = team or Ranks()

    def enter(self, model: nn.Module, decoder: Any) -> None:
        """Have the team share the model's passes from here on."""
        decoder.context = self
        for module in model.modules():
            if isinstance(module, DocumentDropout):
                module.rows = (self.team.rank, self.team.count)
            elif isinstance(module, LabelDropout):
                module.own = self.labels

    @property
    def alone(self) -> bool:
        return self.team.count == 1

    def own(self, of_tokens_T: Tensor) -> Tensor:
        """Return [T / W, rounded up]: this rank's part, with zeros behind the end of the row."""
        if self.alone:
            return of_tokens_T
        width = self._width(len(of_tokens_T))
        filled = functional.pad(of_tokens_T, (0, width * self.team.count - len(of_tokens_T)))
        return filled[self.team.rank * width :][:width]

    def labels(self, batch: Batch) -> Tensor | slice:
        """Return [n]: which of the batch's labels are predicted from this rank's tokens."""
        if self.alone:
            return slice(None)
        return (batch.labelled_N // self._width(batch.tokens) == self.team.rank).nonzero()[:, 0]

    def places(self, batch: Batch) -> Tensor:
        """Return [n]: the places, among this rank's tokens, of those that its labels are predicted from."""
        if self.alone:
            return batch.labelled_N
        return batch.labelled_N[self.labels(batch)] - self.team.rank * self._width(batch.tokens)

    def _width(self, tokens: int) -> int:
        """Return the width of a part, which does not depend on whether the row is padded (engine.shape_rounding)."""
        return -(-shape_rounding.rows(tokens, shape_rounding.STEP) // self.team.count)

    def heads(self, of_tokens_HTD: Tensor) -> Tensor:
        """Exchange [H, T / W, D] of this rank's tokens for [H / W, T, D] of all tokens."""
        return exchanged(of_tokens_HTD, self.team, 0, 1)

    def tokens(self, of_heads_HTD: Tensor) -> Tensor:
        """Exchange [H / W, T, D] for [H, T / W, D], the inverse of `heads`."""
        return exchanged(of_heads_HTD, self.team, 1, 0)

    def all_labels(self, own_N: Tensor, labels: Tensor | slice, count: int) -> Tensor:
        """Join [n] figures of this rank's `labels` into [N] of all, from which each rank computes the same loss."""
        return own_N if self.alone else _Joined.apply(own_N, labels, count, self.team)  # type: ignore[return-value]

    def total(self, own: Tensor, all_N: Tensor) -> Tensor:
        """Return the sum over all labels, with the gradient of this rank's own: the gradients of all ranks are summed."""
        return own if self.alone else all_N.detach().sum(dtype=torch.float64).float() + (own - own.detach())


_ALONE = Context()


def context_of(decoder: Any) -> Context:
    return getattr(decoder, "context", _ALONE)


class _Joined(torch.autograd.Function):
    """The figures of every rank in their places among all; in the backward pass each rank takes its own."""

    @staticmethod
    def forward(ctx: Any, own_N: Tensor, places: Tensor, count: int, team: Ranks) -> Tensor:
        ctx.save_for_backward(places)
        all_N = own_N.new_zeros(count).index_copy_(0, places, own_N)
        team.add_up([all_N])
        return all_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return grads[0][places], None, None, None
