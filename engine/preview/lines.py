"""Lines of a training file, and what each of them becomes."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from engine.data.corpus import Corpus
from engine.data.cut import Cut
from engine.data.lines import blocks_near
from engine.data.pairs import PairCorpus
from engine.data.supply import WINDOW_BLOCKS, FileSupply, Supply, cut_rows
from engine.job_rows import Material


class Line(NamedTuple):
    """A line and its documents; `split` is train, validation or left_out, and a line left out has a `reason`."""

    number: int
    corpus: Corpus
    documents: list[int]
    split: str
    truncated: bool = False
    reason: str | None = None

    def facts(self) -> dict[str, Any]:
        return {"line": self.number, "split": self.split, "truncated": self.truncated, "reason": self.reason}


def lines_of(material: Material, query: dict[str, Any]) -> Iterator[Line]:
    """Return the lines of the first file that `query` names, or the first `limit` trained lines after `after_line`."""
    supply = material.mixture.shares[0].supply
    if query.get("lines"):
        return (_line(material, supply, number) for number in query["lines"])
    return islice(_following(supply, query.get("after_line", 0)), query.get("limit", 5))


def _following(supply: Supply, after: int) -> Iterator[Line]:
    for cut in _cuts(supply, after + 1):
        for number in sorted({*cut.corpus.lines.tolist(), *cut.dropped, *cut.untrained}):
            if number > after:
                after = number
                whole = _cut_at(supply, number) if _spans_blocks(supply, number) else cut
                yield _in_cut(whole, number, "train") or _left_out(whole, number)


def _line(material: Material, supply: Supply, number: int) -> Line:
    cut = _cut_at(supply, number)
    trained = _in_cut(cut, number, "train")
    if trained is not None:
        return trained
    held_out = _held_out_cut(material, supply, number)
    validated = _in_cut(held_out, number, "validation")
    if validated is not None:
        return validated
    if number in material.spec.exclude_rows:
        return Line(number, cut.corpus, [], "left_out", reason="excluded")
    return _left_out(held_out if _lost(held_out, number) else cut, number)


def _in_cut(cut: Cut, number: int, split: str) -> Line | None:
    documents = np.flatnonzero(cut.corpus.lines == number).tolist()
    return Line(number, cut.corpus, documents, split, number in cut.truncated) if documents else None


def _left_out(cut: Cut, number: int) -> Line:
    return Line(number, cut.corpus, [], "left_out", number in cut.truncated, _lost(cut, number) or "not_a_row")


def _lost(cut: Cut, number: int) -> str | None:
    """Why nothing is left of the row on this line; None when the cut has no such row."""
    return "dropped" if number in cut.dropped else "no_trained_token" if number in cut.untrained else None


def _cuts(supply: Supply, line: int) -> Iterator[Cut]:
    """The training rows as documents, block by block, from the first block that may hold this line on."""
    if not isinstance(supply, FileSupply):
        return iter((_whole(supply.window(0, 0)),))
    blocks = supply.file.blocks
    first = max(0, bisect_left([block.line for block in blocks], line) - 1)
    return (supply.cut_block(block) for block in blocks[first:])


def _cut_at(supply: Supply, line: int) -> Cut:
    """The training rows around a line as documents; of a line that is longer than a window, those of one window."""
    if not isinstance(supply, FileSupply):
        return _whole(supply.window(0, 0))
    return Cut.join([supply.cut_block(block) for block in blocks_near(supply.file, [line])[:WINDOW_BLOCKS]])


def _spans_blocks(supply: Supply, line: int) -> bool:
    return isinstance(supply, FileSupply) and len(blocks_near(supply.file, [line])) > 1


def _held_out_cut(material: Material, supply: Supply, line: int) -> Cut:
    """The held-out rows around a line as documents: of this file alone, though others may be validated on too."""
    if isinstance(supply, FileSupply):
        blocks = blocks_near(supply.file, [line])[:WINDOW_BLOCKS]
        return cut_rows([row for block in blocks for row in supply.file.held_out_rows_of(block)], supply.recipe)
    spec: Any = material.spec
    corpus = material.rows.validation if spec.validation_file == "auto" else None
    return Cut(Corpus.of([]), [], [], []) if corpus is None else _whole(corpus)


def _whole(corpus: Corpus) -> Cut:
    """A corpus in memory, and what it records of its rows."""
    return corpus.origin.cut if isinstance(corpus, PairCorpus) and corpus.origin else Cut(corpus, [], [], [])
