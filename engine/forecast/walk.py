"""A walk through the rows of a training job without a model, which counts steps, tokens and labels."""

from typing import NamedTuple

from engine.data.corpus import Corpus
from engine.data.lengths import Lengths
from engine.data.stream import RowStream
from engine.dist.ranks import Ranks
from engine.job_rows import Material
from engine.plan import Counts, Variety
from engine.stop import StopFlag

_MOST_STEPS = 20_000
"""Longer runs are walked up to this step, and the rest is extrapolated."""


class Walk(NamedTuple):
    """The counts of a run; `largest` is the micro-batch with most tokens, `longest` the longest document.

    `variety` is that of the first rank: each process generates code for itself.
    """

    steps: int
    walked: int
    counts: Counts
    largest: Counts
    largest_rows: int
    longest: int
    variety: Variety
    filled: float
    """The share of the rows' token capacity that is used."""

    @property
    def exact(self) -> bool:
        return self.walked == self.steps


def walk(material: Material, step: int, stop: StopFlag) -> Walk:
    """Walk through all steps of a job; lengths are rounded up to multiples of `step`.

    Raises:
        StopRequested: asked to stop before the end.
    """
    spec = material.spec
    hyper = spec.hyperparameters
    stream = RowStream.of_job(material.rows, spec, Ranks(0, spec.resources.replicas))
    steps = hyper.max_steps or stream.steps_in(hyper.num_train_epochs or 1.0)
    walked = min(steps, _MOST_STEPS)
    total, largest, longest, rows, variety = Counts(), (Counts(), 0), 0, 0, Variety(step)
    known: dict[int, Lengths] = {}
    for _ in range(walked):
        stop.check()
        pieces = stream.draw_step()
        for number, drawn in enumerate(pieces):
            if not drawn:  # a rank may have no row of a step
                continue
            batch, varies = Counts(), step > 1 and number < len(pieces) // stream.ranks.count
            for row in drawn:
                lengths = _lengths(row.corpus, known)
                batch = batch.plus(lengths.counts(row.documents))
                longest = max(longest, int(lengths.own[row.documents].max()))
                if varies:
                    spans = (of[row.documents].tolist() for of in (lengths.whole, lengths.shared, lengths.asked))
                    variety.documents(*spans)
            batch = batch._replace(batches=1)
            if varies:
                variety.batch(batch)
            largest = max(largest, (batch, len(drawn)), key=_tokens)
            total, rows = total.plus(batch), rows + len(drawn)
    filled = total.tokens / (rows * hyper.max_length * material.mixture.together)
    return Walk(steps, walked, total.times(steps / walked), *largest, longest, variety, filled)


def _lengths(corpus: Corpus, known: dict[int, Lengths]) -> Lengths:
    """Return the lengths of the corpus that rows are drawn from at present."""
    found = known.get(id(corpus))
    if found is None or found.corpus is not corpus:
        if len(known) > 64:
            known.clear()
        found = known[id(corpus)] = Lengths(corpus)
    return found


def _tokens(batch: tuple[Counts, int]) -> int:
    return batch[0].tokens
