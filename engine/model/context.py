"""Context parallelism: a team of ranks takes the tokens of each row in parts, and in attention the heads.

DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv:2309.14509: all but attention works on tokens one by one, and attention on
heads one by one. With an exchange ahead of it and one behind, what attends is the same code over whole rows.
Shapes: T tokens of the row, N labels of it, of which a rank has n; H heads, D head width; W ranks of the team.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine import shape_rounding
from engine.data.corpus import Batch
from engine.dist.collectives import exchanged
from engine.dist.ranks import Ranks
from engine.model.dropout import DocumentDropout


class Context:
    """What a rank of the team has to do with each row; a team of one does all of it."""

    def __init__(self, team: Ranks | None = None) -> None:
        self.team = team or Ranks()

    def enter(self, model: nn.Module, decoder: Any) -> None:
        """From here on the model's passes are the team's."""
        decoder.context = self
        for module in model.modules():
            if isinstance(module, DocumentDropout):
                module.rows = (self.team.rank, self.team.count)

    @property
    def alone(self) -> bool:
        return self.team.count == 1

    def own(self, of_tokens_T: Tensor) -> Tensor:
        """[T / W, rounded up]: this rank's part, zeros behind the row's end."""
        if self.alone:
            return of_tokens_T
        width = self._width(len(of_tokens_T))
        filled = functional.pad(of_tokens_T, (0, width * self.team.count - len(of_tokens_T)))
        return filled[self.team.rank * width :][:width]

    def labels(self, batch: Batch) -> Tensor | slice:
        """[n]: which of the batch's labels are predicted from this rank's tokens."""
        if self.alone:
            return slice(None)
        return (batch.labelled_N // self._width(batch.tokens) == self.team.rank).nonzero()[:, 0]

    def places(self, batch: Batch) -> Tensor:
        """[n]: where among this rank's tokens those are predicted from."""
        if self.alone:
            return batch.labelled_N
        return batch.labelled_N[self.labels(batch)] - self.team.rank * self._width(batch.tokens)

    def _width(self, tokens: int) -> int:
        """Of a part; the same whether or not the row has been filled up (engine.shape_rounding)."""
        return -(-shape_rounding.rows(tokens, shape_rounding.STEP) // self.team.count)

    def heads(self, of_tokens_HTD: Tensor) -> Tensor:
        """[H, T / W, D] of this rank's tokens to [H / W, T, D] of all."""
        return exchanged(of_tokens_HTD, self.team, 0, 1)

    def tokens(self, of_heads_HTD: Tensor) -> Tensor:
        """[H / W, T, D] to [H, T / W, D]."""
        return exchanged(of_heads_HTD, self.team, 1, 0)

    def all_labels(self, own_N: Tensor, labels: Tensor | slice, count: int) -> Tensor:
        """[n] figures of this rank's `labels` to [N] of all; each rank goes on with them to the same loss."""
        return own_N if self.alone else _Joined.apply(own_N, labels, count, self.team)  # type: ignore[return-value]

    def total(self, own: Tensor, all_N: Tensor) -> Tensor:
        """The sum over all labels, with the gradient of this rank's: all ranks' gradients are added up."""
        return own if self.alone else all_N.detach().sum(dtype=torch.float64).float() + (own - own.detach())


_ALONE = Context()


def context_of(decoder: Any) -> Context:
    return getattr(decoder, "context", _ALONE)


class _Joined(torch.autograd.Function):
    """Every rank's figures in their places among all; on the way back each rank takes its own again."""

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
