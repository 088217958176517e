"""Beam search: of a prompt the likeliest answers, found by going on with several of them at a time.

The search of transformers' `generate(num_beams=..., early_stopping=False)`, which its tests are held against.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from engine.generation.texts import Texts
from engine.generation.writer import Scores, Writer, scores_of
from engine.model.load import Subject


class Beam(NamedTuple):
    """An answer so far: the sum of its tokens' log-probabilities, and theirs one by one where they are asked for."""

    total: float = 0.0
    ids: tuple[int, ...] = ()
    scores: tuple[Scores, ...] = ()


class Beams:
    """Has the interface of engine.generation.generate.Batch. Nothing is written before a search has ended; then a token a step is."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._texts = Texts(subject)
        self._searches: list[_Search] = []

    @property
    def writers(self) -> list[Writer]:
        """Those whose answers are not at their end."""
        return [writer for search in self._searches for writer in search.writers if not writer.ended]

    @property
    def rows(self) -> int:
        """Texts that grow, or will when all beams are there."""
        return sum(search.width for search in self._searches)

    def join(self, prompts: Sequence[list[int]], writers: Sequence[Writer]) -> list[Writer]:
        """The prompts are read; each has as many of the writers, in its order, for its likeliest answers."""
        each = len(writers) // len(prompts)
        texts = Texts(self._subject)
        logits_PV = texts.begin(prompts)
        searches = [_Search(writers[at * each : (at + 1) * each]) for at in range(len(prompts))]
        texts.take(_parents(searches, logits_PV))
        self._texts.add(texts)
        self._searches += searches
        return []

    def step(self) -> list[Writer]:
        """The searches go on by a token; these are the writers of those that have ended, each of whom wrote its next."""
        if len(self._texts):
            newest = [beam.ids[-1] for search in self._searches for beam in search.beams]
            self._texts.take(_parents(self._searches, self._texts.go_on(newest)))
        wrote = [writer for search in self._searches if not search.beams for writer in search.tell()]
        self._searches = [search for search in self._searches if search.beams or not search.told]
        return wrote

    def keep(self, stays: Callable[[Writer], bool]) -> None:
        """Searches leave of whose writers none stays."""
        staying = [search for search in self._searches if any(map(stays, search.writers))]
        rows, start = list[int](), 0
        for search in self._searches:
            if search in staying:
                rows += range(start, start + len(search.beams))
            start += len(search.beams)
        self._searches = staying
        self._texts.take(rows)


class _Search:
    """Of one prompt. `beams` go on, none of them once the search has ended; `found` are answers that came to an end."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self.writers = writers
        self.beams = [Beam()]
        self._found: list[tuple[float, Beam]] = []
        self._rules = writers[0].decoding
        self.width = self._rules.num_beams
        # So many candidates that, whichever of them are at an end, enough are left to go on with.
        self._looked_at = self.width * max(2, 1 + len(writers[0].ends))

    @property
    def told(self) -> bool:
        return all(writer.ended for writer in self.writers)

    def go_on(self, logits_BV: Tensor) -> list[int]:
        """By a token; which of the beams each that goes on from now came from."""
        totals_B = torch.tensor([beam.total for beam in self.beams], device=logits_BV.device)
        totals_BV = totals_B[:, None] + logits_BV.log_softmax(-1)
        vocabulary = logits_BV.shape[-1]
        totals, places = totals_BV.flatten().topk(min(self._looked_at, totals_BV.numel()))
        going: list[tuple[int, Beam]] = []
        for rank, (total, place) in enumerate(zip(totals.tolist(), places.tolist(), strict=True)):
            if rank >= self.width == len(going):
                break
            parent, token = divmod(place, vocabulary)
            beam = self._grown(self.beams[parent], total, token, logits_BV[parent])
            if not self._ends(beam):
                going.append((parent, beam))
            elif rank < self.width:
                self._found.append((total / len(beam.ids) ** self._rules.length_penalty, beam))
        self._found = sorted(self._found, key=lambda scored: -scored[0])[: self.width]
        if not going or self._is_over(going[0][1]):
            going = []
        self.beams = [beam for _, beam in going]
        return [parent for parent, _ in going]

    def _grown(self, beam: Beam, total: float, token: int, logits_V: Tensor) -> Beam:
        asked = self._rules.logprobs
        scores = () if asked is None else (scores_of(logits_V, token, asked),)
        return Beam(total, (*beam.ids, token), beam.scores + scores)

    def _ends(self, beam: Beam) -> bool:
        return len(beam.ids) == self._rules.max_new_tokens or self.writers[0].is_end(beam.ids)

    def _is_over(self, best: Beam) -> bool:
        """Whether no beam can become better any more than what was found, were it to end now."""
        if len(self._found) < self.width:
            return False
        return best.total / len(best.ids) ** self._rules.length_penalty <= self._found[-1][0]

    def tell(self) -> list[Writer]:
        """Each writer writes the next token of its answer; these are those that had one."""
        wrote: list[Writer] = []
        for writer, (_, beam) in zip(self.writers, self._found, strict=False):
            if not writer.ended:
                at = len(writer.ids)
                writer.take(beam.ids[at], beam.scores[at] if beam.scores else None)
                wrote.append(writer)
        return wrote


def _parents(searches: Sequence[_Search], logits_BV: Tensor) -> list[int]:
    """The searches go on; the rows that are gone on with."""
    rows, start = list[int](), 0
    for search in searches:
        count = len(search.beams)
        rows += [start + parent for parent in search.go_on(logits_BV[start : start + count])] if count else []
        start += count
    return rows
