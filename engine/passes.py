"""What goes through a model that scores or writes, batch by batch: counted ahead of it, and again as it goes through."""

from collections.abc import Sequence
from functools import reduce

from engine.data.corpus import Batch
from engine.dist.ranks import Ranks
from engine.plan import Counts, Scoring, Writing
from engine.plan.forward import Head


class Passes:
    """`steps` batches, all that they hold, and the one of the most tokens as memory is planned of it.

    `room_tokens` is what a batch of documents may hold. Of answers that are written each has a pass a token, and all
    tokens that are read count: the prompt's, and those of the answer but its last.
    """

    def __init__(self, room_tokens: int, head: Head) -> None:
        self.room_tokens = room_tokens
        self.head: Head = head
        self.steps = 0
        self.all = Counts()
        self.largest: Scoring | Writing | None = None
        self.could_hold = 0

    def read(self, batch: Batch) -> None:
        """A batch of documents is scored."""
        work = Scoring(batch.tokens, batch.count, max(batch.segments), self.head)
        self._add(Counts(1, batch.tokens, batch.count, batch.attended), work, self.room_tokens)

    def write(self, read: Sequence[int], written: Sequence[int]) -> None:
        """Prompts of that many tokens are answered side by side with that many."""
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
        """The largest."""
        assert self.largest is not None, "there are rows"
        return self.largest

    @property
    def filled(self) -> float:
        """What share of the tokens that the batches could hold they do hold."""
        return self.all.tokens / self.could_hold

    def of_all(self, ranks: Ranks) -> "Passes":
        """Those of all ranks together; each must call this."""
        told = ranks.gather(self)
        made = Passes(self.room_tokens, self.head)
        made.steps, made.could_hold = sum(one.steps for one in told), sum(one.could_hold for one in told)
        made.all = reduce(Counts.plus, (one.all for one in told))
        batches = [one.largest for one in told if one.largest is not None]
        made.largest = max(batches, key=lambda work: work.tokens, default=None)
        return made
