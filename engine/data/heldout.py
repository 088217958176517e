"""The held-out rows of a job that trains."""

from collections.abc import Callable

from engine.data.corpus import Corpus
from engine.data.cut import LINES_TOLD
from engine.data.source import SourceRow, Sources
from engine.errors import NoTrainedToken
from engine.journal import Journal


def held_out_corpus(
    sources: Sources,
    tokenized: Callable[[list[SourceRow]], Corpus],
    journal: Journal,
    file: str | None = None,
) -> Corpus | None:
    """Return the held-out rows of a file as documents to score the job on, None where there are none.

    A split of a small file may hold out nothing but rows without a trained token. Nobody chose them, so the
    job goes on without validation and logs a warning; a validation file without a trained token is the user's error.
    `file` is the file's name, where the job has several.

    Raises:
        NoTrainedToken: a validation file was given, and none of its rows can be scored.
    """
    rows = sources.validation
    if not rows:
        return None
    try:
        return tokenized(rows)
    except NoTrainedToken as error:
        if not sources.by_split:
            raise
        lines = [row.line for row in rows]
        place, of = ({}, "") if file is None else ({"file": file}, f" of {file}")
        journal.log(
            "warn",
            "validation_empty",
            f"nothing{of} is held out: of the rows that were to be, {error.message}",
            count=len(lines),
            lines=lines[:LINES_TOLD],
            **place,
        )
        return None
