"""Rows as they are trained on: what is left of them at max_length, and which lost something."""

from typing import NamedTuple

from engine.data.corpus import Corpus
from engine.journal import Journal

LINES_TOLD = 20


class Cut(NamedTuple):
    """The documents, and what had to be done to get them."""

    corpus: Corpus
    truncated: list[int]
    dropped: list[int]
    untrained: list[int]
    """Lines of rows without a trained token; they are left out."""

    @classmethod
    def join(cls, cuts: "list[Cut]") -> "Cut":
        truncated, dropped, untrained = (
            [line for lines in kind for line in lines] for kind in zip(*(cut[1:] for cut in cuts), strict=True)
        )
        return cls(Corpus.join([cut.corpus for cut in cuts]), truncated, dropped, untrained)

    def report(self, journal: Journal, name: str, max_length: int, file: str | None = None) -> None:
        """Say which rows were cut or left out; `file`: of which, where the job has several."""
        Losses.of(self).report(journal, name, max_length, file)


class Losses(NamedTuple):
    """How many rows were cut, dropped or left out, and the first of their lines: of a large file they are not all kept."""

    counts: tuple[int, ...]
    lines: tuple[list[int], ...]

    @classmethod
    def of(cls, cut: Cut) -> "Losses":
        return cls(tuple(map(len, cut[1:])), tuple(lines[:LINES_TOLD] for lines in cut[1:]))

    @classmethod
    def join(cls, parts: "list[Losses]") -> "Losses":
        counts = tuple(map(sum, zip(*(part.counts for part in parts), strict=True)))
        lines = (sorted(line for each in kind for line in each) for kind in zip(*(p.lines for p in parts), strict=True))
        return cls(counts, tuple(kind[:LINES_TOLD] for kind in lines))

    def report(self, journal: Journal, name: str, max_length: int, file: str | None = None) -> None:
        """As a cut's."""
        place, of = ({}, "") if file is None else ({"file": file}, f"{file}, ")
        whats = (
            ("rows_truncated", f"cut to max_length {max_length}"),
            ("rows_dropped", f"over max_length {max_length} and left out"),
            ("rows_without_labels", "left out: no token of the answer is within max_length"),
        )
        for (code, what), count, lines in zip(whats, self.counts, self.lines, strict=True):
            if count:
                told = ", ".join(map(str, lines)) + (", ..." if count > len(lines) else "")
                message = f"{count} {name} rows {what} ({of}lines {told})"
                journal.log("warn", code, message, count=count, lines=lines, **place)


def listed(lines: list[int]) -> str:
    return ", ".join(map(str, lines[:LINES_TOLD])) + (", ..." if len(lines) > LINES_TOLD else "")
