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
        place, of = ({}, "") if file is None else ({"file": file}, f"{file}, ")
        for code, lines, what in (
            ("rows_truncated", self.truncated, f"cut to max_length {max_length}"),
            ("rows_dropped", self.dropped, f"over max_length {max_length} and left out"),
            ("rows_without_labels", self.untrained, "left out: no token of the answer is within max_length"),
        ):
            if lines:
                message = f"{len(lines)} {name} rows {what} ({of}lines {listed(lines)})"
                journal.log("warn", code, message, count=len(lines), lines=lines[:LINES_TOLD], **place)


def listed(lines: list[int]) -> str:
    return ", ".join(map(str, lines[:LINES_TOLD])) + (", ..." if len(lines) > LINES_TOLD else "")
