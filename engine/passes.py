"""The passes of a model that scores or generates, counted batch by batch: ahead of a run, and again during it."""

from collections.abc import Sequence
from functools import reduce

from engine.data.corpus import Batch
from engine.dist.ranks import Ranks
from engine.plan import Counts, Scoring, Writing
from engine.plan.forward import Head


class Passes:
    """The number of batches (`steps`), their contents in sum, and the batch of the most tokens, for the memory plan.

    `room_tokens` is the most that a batch of documents may hold. An answer takes one pass per token, and counts the
    tokens that are read: those of the prompt, and all of the answer but the last.
    """

    def __init__(self, room_tokens: int, head: Head) -> None:
        self.room_tokens = room_tokens
        self.head: Head = head
        self.steps = 0
        self.all = Counts()
        self.largest: Scoring | Writing | None = None
        self.could_hold = 0

    def read(self, batch: Batch) -> None:
        """Count a batch of documents that is scored."""
        work = Scoring(batch.tokens, batch.count, max(batch.segments), self.head)
        self._add(Counts(1, batch.tokens, batch.count, batch.attended), work, self.room_tokens)

    def write(self, read: Sequence[int], written: Sequence[int]) -> None:
        """Count answers of `written` tokens, generated side by side for prompts of `read` tokens."""
        lengths = [prompt + answer - 1 for prompt, answer in zip(read, written, strict=True)]
        counts = Counts(max(written), sum(lengths), sum(written), sum(float(length) ** 2 for length in lengths))
        work = Writing(len(read), max(read), max(written))
        self._add(counts, work, work.tokens)

    def _add(self, counts: Counts, work: Scoring | Writing, room: int) -> None:
        self.steps += 1
        self.all = self.all.plus(counts)
        self.could_hold += room
        if self.largest is None or work.tokens > self.largest.tokens:
            self.largest = work

    @property
    def batch(self) -> Scoring | Writing:
        """The largest batch."""
        assert self.largest is not None, "there are rows"
        return self.largest

    @property
    def filled(self) -> float:
        """The tokens in the batches, as a share of the tokens that they could hold."""
        return self.all.tokens / self.could_hold

    def of_all(self, ranks: Ranks) -> "Passes":
        """Return the passes of all ranks together; each rank must call this."""
        by_rank = ranks.gather(self)
        made = Passes(self.room_tokens, self.head)
        made.steps, made.could_hold = sum(one.steps for one in by_rank), sum(one.could_hold for one in by_rank)
        made.all = reduce(Counts.plus, (one.all for one in by_rank))
        batches = [one.largest for one in by_rank if one.largest is not None]
        made.largest = max(batches, key=lambda work: work.tokens, default=None)
        return made
