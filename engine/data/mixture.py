"""Mixtures: several supplies of documents, each with its share of the tokens."""

from dataclasses import dataclass
from typing import NamedTuple

from engine.data.supply import Supply


class Share(NamedTuple):
    """A supply of a mixture; its share of the tokens is its weight's share of the sum of all weights."""

    name: str
    supply: Supply
    weight: float


@dataclass(frozen=True)
class Mixture:
    """The supplies that are trained on first, and those of the annealing tail."""

    shares: tuple[Share, ...]
    annealing: tuple[Share, ...] = ()

    @classmethod
    def of(cls, supply: "Supply | Mixture") -> "Mixture":
        return supply if isinstance(supply, Mixture) else cls((Share("", supply, 1.0),))

    @property
    def together(self) -> int:
        """Number of neighbouring documents that stay in one batch."""
        return self.shares[0].supply.together

    def row_count(self) -> int:
        return sum(share.supply.row_count() for share in (*self.shares, *self.annealing))
