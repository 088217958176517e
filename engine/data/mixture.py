"""What a job draws its rows from: one supply of documents, or several by their shares."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from engine.data.corpus import Corpus


class Supply(Protocol):
    """Documents in windows: an epoch has each document in one of them, and the same ones whenever it is asked."""

    @property
    def together(self) -> int:
        """Documents that no batch parts."""
        ...

    @property
    def windows(self) -> int:
        """Windows of an epoch, of about one size."""
        ...

    def window(self, epoch: int, index: int) -> Corpus: ...

    def part(self, epoch: int, index: int) -> float:
        """What part of an epoch's bytes a window holds."""
        ...

    def row_count(self) -> int: ...


class Share(NamedTuple):
    """A supply of a mixture, and its weight: what part of the tokens it gives, of the sum of all weights."""

    name: str
    supply: Supply
    weight: float


@dataclass(frozen=True)
class Mixture:
    """What is trained on at first, and in the annealing tail."""

    shares: tuple[Share, ...]
    annealing: tuple[Share, ...] = ()

    @classmethod
    def of(cls, supply: "Supply | Mixture") -> "Mixture":
        return supply if isinstance(supply, Mixture) else cls((Share("", supply, 1.0),))

    @property
    def together(self) -> int:
        """Documents that no batch parts."""
        return self.shares[0].supply.together

    def row_count(self) -> int:
        return sum(share.supply.row_count() for share in (*self.shares, *self.annealing))


@dataclass(frozen=True)
class Rows:
    """What a job learns from (None: it only scores) and what it is scored on (None: nothing was held out)."""

    train: Supply | Mixture | None
    validation: Corpus | None
    reference: Literal["never", "once", "each_step"] = "never"
    """Whether, besides what is trained, the starting weights score each document: before the first step, or in each."""

    def probe(self, documents: int) -> Corpus:
        """The first training documents."""
        assert self.train is not None, "a job that trains has rows"
        return Mixture.of(self.train).shares[0].supply.window(0, 0).head(documents)
