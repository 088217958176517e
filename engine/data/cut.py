"""Rows cut to max_length, and the record of which rows lost something by it."""

from typing import NamedTuple

from engine.data.corpus import Corpus
from engine.journal import Journal

LINES_TOLD = 20


class Cut(NamedTuple):
    """Documents cut to max_length, and the lines of the rows that were truncated, dropped, or have nothing to train."""

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
        """Log which rows were cut or left out; `file` is theirs, where the job has several."""
        Losses.of(self).report(journal, name, max_length, file)


class Losses(NamedTuple):
    """How many rows were truncated, dropped or left out, and their first lines: a large file has too many to keep."""

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
        """Log the losses, as Cut.report does."""
        place, of = ({}, "") if file is None else ({"file": file}, f"{file}, ")
        whats = (
            ("rows_truncated", f"cut to max_length {max_length}"),
            ("rows_dropped", f"over max_length {max_length} and left out"),
            ("rows_without_labels", "left out: no token of the answer is within max_length"),
        )
        for (code, what), count, lines in zip(whats, self.counts, self.lines, strict=True):
            if count:
                message = f"{count} {name} rows {what} ({of}lines {listed(lines, count)})"
                journal.log("warn", code, message, count=count, lines=lines, **place)


def listed(lines: list[int], count: int | None = None) -> str:
    """Spell the first lines; `count`: how many there are in all, where `lines` are only some of them."""
    more = (len(lines) if count is None else count) > len(lines[:LINES_TOLD])
    return ", ".join(map(str, lines[:LINES_TOLD])) + (", ..." if more else "")
