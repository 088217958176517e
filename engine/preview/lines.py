"""Lines of a training file, and what became of each."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from engine.data.corpus import Corpus
from engine.data.cut import Cut
from engine.data.mixture import Supply
from engine.data.pairs import PairCorpus
from engine.data.supply import FileSupply
from engine.job_rows import Material


class Line(NamedTuple):
    """A line and its documents; `split` is train, validation or left_out, which has a `reason`."""

    number: int
    corpus: Corpus
    documents: list[int]
    split: str
    truncated: bool = False
    reason: str | None = None

    def facts(self) -> dict[str, Any]:
        return {"line": self.number, "split": self.split, "truncated": self.truncated, "reason": self.reason}


def lines_of(material: Material, asked: dict[str, Any]) -> Iterator[Line]:
    """The lines that are asked for, of the first file; or the first `limit` after line `after_line` that are trained on."""
    supply = material.mixture.shares[0].supply
    if asked.get("lines"):
        return (_line(material, supply, number) for number in asked["lines"])
    return islice(_following(supply, asked.get("after_line", 0)), asked.get("limit", 5))


def _following(supply: Supply, after: int) -> Iterator[Line]:
    for cut in _cuts(supply, after + 1):
        for number in sorted({*cut.corpus.lines.tolist(), *cut.dropped, *cut.untrained}):
            if number > after:
                yield _in_cut(cut, number) or _left_out(cut, number)


def _line(material: Material, supply: Supply, number: int) -> Line:
    cut = next(_cuts(supply, number))
    found = _in_cut(cut, number)
    if found is not None:
        return found
    held_out = material.rows.validation
    if held_out is not None and _split_off(material):
        documents = np.flatnonzero(held_out.lines == number).tolist()
        if documents:
            return Line(number, held_out, documents, "validation")
    if number in material.spec.exclude_rows:
        return Line(number, cut.corpus, [], "left_out", reason="excluded")
    return _left_out(cut, number)


def _split_off(material: Material) -> bool:
    """Whether what is held out are lines of the one training file."""
    spec: Any = material.spec
    return spec.validation_file == "auto" and len(material.mixture.shares) == 1


def _in_cut(cut: Cut, number: int) -> Line | None:
    documents = np.flatnonzero(cut.corpus.lines == number).tolist()
    return Line(number, cut.corpus, documents, "train", number in cut.truncated) if documents else None


def _left_out(cut: Cut, number: int) -> Line:
    reason = "dropped" if number in cut.dropped else "no_trained_token" if number in cut.untrained else "not_a_row"
    return Line(number, cut.corpus, [], "left_out", number in cut.truncated, reason)


def _cuts(supply: Supply, line: int) -> Iterator[Cut]:
    """What the training rows from the block of this line on become, block by block."""
    if isinstance(supply, FileSupply):
        blocks = supply.file.blocks
        first = max(0, bisect_right([block.line for block in blocks], line) - 1)
        return (supply.cut_block(block) for block in blocks[first:])
    corpus = supply.window(0, 0)
    whole = corpus.origin.cut if isinstance(corpus, PairCorpus) and corpus.origin else Cut(corpus, [], [], [])
    return iter((whole,))
