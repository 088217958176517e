"""The documents of a job: those that it trains on, and those that it is scored on."""

from dataclasses import dataclass
from typing import Literal

from engine.data.corpus import Corpus
from engine.data.mixture import Mixture
from engine.data.supply import Supply


@dataclass(frozen=True)
class Rows:
    """What a job trains on (None: it only scores) and what it is scored on (None: nothing was held out)."""

    train: Supply | Mixture | None
    validation: Corpus | None
    reference: Literal["never", "once", "each_step"] = "never"
    """When the starting weights score the documents too: never, once before the first step, or in each step."""

    def probe(self, documents: int) -> Corpus:
        """Return the first training documents."""
        assert self.train is not None, "a job that trains has rows"
        return Mixture.of(self.train).shares[0].supply.window(0, 0).head(documents)
