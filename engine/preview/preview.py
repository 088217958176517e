"""Previews: some rows of a job or the rows of one step, as documents, and statistics of all rows."""

from typing import Any

from engine.data.documents import documents_as_text
from engine.data.stream import RowStream
from engine.dist.ranks import Ranks
from engine.errors import SpecError
from engine.job_rows import Material
from engine.parts import Hyperparameters
from engine.preview.lines import Line, lines_of
from engine.preview.statistics import statistics
from engine.stop import StopFlag

_MOST_TOKENS = 1 << 16
"""Tokens shown of a step or of rows: as much as fits on a page."""


def preview(material: Material, query: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    """Return the rows of a query, {lines}, {after_line, limit} or {step}, and statistics if it has {statistics}.

    Raises:
        StopRequested: stopped while all rows were counted.
        SpecError: the run has no such step.
    """
    step, counts = query.get("step"), bool(query.get("statistics"))
    rows = [] if step is not None else _rows(material, query)
    return {
        "max_length": material.spec.hyperparameters.max_length,
        "packing": material.spec.hyperparameters.packing,
        "rows": rows,
        "step": None if step is None else _step(material, step, stop),
        "statistics": statistics(material, stop) if counts else [],
    }


def _rows(material: Material, query: dict[str, Any]) -> list[dict[str, Any]]:
    rows, left = [], _MOST_TOKENS
    for line in lines_of(material, query):
        documents = _first_tokens(line, material, left)
        shown = sum(len(document["ids"]) for document in documents)
        tokens = int(sum(line.corpus.starts[number + 1] - line.corpus.starts[number] for number in line.documents))
        rows.append({**line.facts(), "documents": documents, "complete": shown == tokens})
        left -= shown
    return rows


def _first_tokens(line: Line, material: Material, most: int) -> list[dict[str, Any]]:
    """Return the documents of a line, cut to `most` tokens in all."""
    documents = []
    for number in line.documents:
        if most <= 0:
            break
        (document,) = documents_as_text(line.corpus, [number], material.tokenizer)
        documents.append(document | {name: document[name][:most] for name in ("ids", "pieces", "trained")})
        most -= len(document["ids"])
    return documents


def _step(material: Material, step: int, stop: StopFlag) -> dict[str, Any]:
    """Return the micro-batches of a step, those of all processes, as packed rows of documents."""
    stream = RowStream.of_job(material.rows, material.spec, Ranks(0, material.spec.resources.replicas))
    if step > 1:  # there always is a first one; to count the others, all epochs are packed
        _check_there(step, stream, material.spec.hyperparameters)
    for _ in range(step - 1):
        stop.check()
        stream.draw_step()
    batches, tokens = [], 0
    for drawn in filter(None, stream.draw_step()):  # a process may have no row of a step
        packed = []
        for row in drawn:
            tokens += int(row.corpus.inputs()[row.documents].sum())
            if tokens <= _MOST_TOKENS:
                packed.append({"documents": documents_as_text(row.corpus, row.documents, material.tokenizer)})
        batches.append({"rows": packed})
    return {"step": step, "batches": batches, "tokens": tokens, "complete": tokens <= _MOST_TOKENS}


def _check_there(step: int, stream: RowStream, hyper: Hyperparameters) -> None:
    """Raise a SpecError if the run ends before the step."""
    steps = hyper.max_steps or stream.steps_in(hyper.num_train_epochs or 1.0)
    if step > steps:
        raise SpecError("no_such_step", f"step is {step}, and the run has {steps}", f"Ask for {steps} or less.")
