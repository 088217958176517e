"""Beam search: the likeliest answers to a prompt, found by extending several candidates at a time.

The algorithm is that of transformers' `generate(num_beams=..., early_stopping=False)`; the tests compare with it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from engine.errors import SpecError
from engine.generation.texts import Texts
from engine.generation.writer import Scores, Writer, scores_of
from engine.model.load import Subject


class Beam(NamedTuple):
    """A candidate: the sum of its tokens' log-probabilities, the tokens, and their scores if logprobs are requested."""

    total: float = 0.0
    ids: tuple[int, ...] = ()
    scores: tuple[Scores, ...] = ()


class Beams:
    """A batch of beam searches, with the interface of engine.generation.generate.Batch.

    Writers get nothing until their search has ended, and then one token per step.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._texts = Texts(subject)
        self._searches: list[_Search] = []

    @property
    def writers(self) -> list[Writer]:
        """The writers whose answers are not complete."""
        return [writer for search in self._searches for writer in search.writers if not writer.ended]

    @property
    def rows(self) -> int:
        """Number of sequences that the searches take up once each has all its beams."""
        return sum(search.width for search in self._searches)

    def join(self, prompts: Sequence[list[int]], writers: Sequence[Writer]) -> list[Writer]:
        """Read the prompts and begin a search for each; no writer has a token yet.

        Every prompt has equally many writers, in the order of the prompts; they receive its likeliest answers.

        Raises:
            SpecError: the vocabulary is smaller than the number of beams, so that too few answers might be found.
        """
        each = len(writers) // len(prompts)
        texts = Texts(self._subject)
        logits_PV = texts.begin(prompts)
        vocabulary, beams = logits_PV.shape[-1], max(writer.decoding.num_beams for writer in writers)
        if beams > vocabulary:
            message = f"num_beams is {beams}, and the model has only {vocabulary} tokens"
            raise SpecError("too_many_beams", message, f"Set num_beams to at most {vocabulary}.")
        searches = [_Search(writers[at * each : (at + 1) * each]) for at in range(len(prompts))]
        texts.take(_parents(searches, logits_PV))
        self._texts.add(texts)
        self._searches += searches
        return []

    def step(self) -> list[Writer]:
        """Extend the searches by a token; returns the writers of ended searches, each of which took its next token."""
        if len(self._texts):
            newest = [beam.ids[-1] for search in self._searches for beam in search.beams]
            self._texts.take(_parents(self._searches, self._texts.extend(newest)))
        wrote = [writer for search in self._searches if not search.beams for writer in search.write()]
        self._searches = [search for search in self._searches if search.beams or not search.written]
        return wrote

    def keep(self, stays: Callable[[Writer], bool]) -> None:
        """Drop the searches for all of whose writers `stays` is false."""
        staying = [search for search in self._searches if any(map(stays, search.writers))]
        rows, start = list[int](), 0
        for search in self._searches:
            if search in staying:
                rows += range(start, start + len(search.beams))
            start += len(search.beams)
        self._searches = staying
        self._texts.take(rows)


class _Search:
    """The search for one prompt. `beams` are the candidates still extended, and empty once the search has ended."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self.writers = writers
        self.beams = [Beam()]
        self._found: list[tuple[float, Beam]] = []  # complete answers and their scores, the best first
        self._rules = writers[0].decoding
        self.width = self._rules.num_beams
        # Each beam may end in `ends` ways: of this many candidates, at least `width` remain to be extended.
        self._candidates = self.width * max(2, 1 + len(writers[0].ends))

    @property
    def written(self) -> bool:
        return all(writer.ended for writer in self.writers)

    def extend(self, logits_BV: Tensor) -> list[int]:
        """Extend the beams by a token; returns, for each of the new beams, the index of the one it extends."""
        totals_B = torch.tensor([beam.total for beam in self.beams], device=logits_BV.device)
        totals_BV = totals_B[:, None] + logits_BV.log_softmax(-1)
        vocabulary = logits_BV.shape[-1]
        totals, places = totals_BV.flatten().topk(min(self._candidates, totals_BV.numel()))
        extended: list[tuple[int, Beam]] = []
        for rank, (total, place) in enumerate(zip(totals.tolist(), places.tolist(), strict=True)):
            if rank >= self.width == len(extended):
                break
            parent, token = divmod(place, vocabulary)
            beam = self._grown(self.beams[parent], total, token, logits_BV[parent])
            if not self._ends(beam):
                extended.append((parent, beam))
            elif rank < self.width:
                self._found.append((total / len(beam.ids) ** self._rules.length_penalty, beam))
        self._found = sorted(self._found, key=lambda scored: -scored[0])[: self.width]
        if not extended or self._is_over(extended[0][1]):
            extended = []
        self.beams = [beam for _, beam in extended]
        return [parent for parent, _ in extended]

    def _grown(self, beam: Beam, total: float, token: int, logits_V: Tensor) -> Beam:
        count = self._rules.logprobs
        scores = () if count is None else (scores_of(logits_V, token, count),)
        return Beam(total, (*beam.ids, token), beam.scores + scores)

    def _ends(self, beam: Beam) -> bool:
        return len(beam.ids) == self._rules.max_new_tokens or self.writers[0].is_end(beam.ids)

    def _is_over(self, best: Beam) -> bool:
        """Whether even the best beam, if it ended now, would score no better than every answer found."""
        if len(self._found) < self.width:
            return False
        return best.total / len(best.ids) ** self._rules.length_penalty <= self._found[-1][0]

    def write(self) -> list[Writer]:
        """Give each writer the next token of its answer; returns the writers that took one."""
        wrote: list[Writer] = []
        for writer, (_, beam) in zip(self.writers, self._found[: len(self.writers)], strict=True):
            if not writer.ended:
                at = len(writer.ids)
                writer.take(beam.ids[at], beam.scores[at] if beam.scores else None)
                wrote.append(writer)
        return wrote


def _parents(searches: Sequence[_Search], logits_BV: Tensor) -> list[int]:
    """Extend all searches; returns, for each of the new beams, the row of the batch that it extends."""
    rows, start = list[int](), 0
    for search in searches:
        count = len(search.beams)
        rows += [start + parent for parent in search.extend(logits_BV[start : start + count])] if count else []
        start += count
    return rows
