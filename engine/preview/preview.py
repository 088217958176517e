"""A preview: some rows of a job, or those of one of its steps, and what there is to say of all of them."""

from typing import Any

from engine.data.documents import told
from engine.data.stream import RowStream
from engine.dist.ranks import Ranks
from engine.errors import SpecError
from engine.job_rows import Material
from engine.parts import Hyperparameters
from engine.preview.lines import Line, lines_of
from engine.preview.statistics import statistics
from engine.stop import StopFlag

_MOST_TOKENS = 1 << 16
"""Of a step, or of the rows asked for, that are told; a page shows no more."""


def preview(material: Material, asked: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    """What is asked for: {lines} or {after_line, limit}, or {step}; {statistics}.

    Raises:
        StopRequested: asked to stop while all rows were counted.
        SpecError: the run has no such step.
    """
    step, counts = asked.get("step"), bool(asked.get("statistics"))
    rows = [] if step is not None else _rows(material, asked)
    return {
        "max_length": material.spec.hyperparameters.max_length,
        "packing": material.spec.hyperparameters.packing,
        "rows": rows,
        "step": None if step is None else _step(material, step, stop),
        "statistics": statistics(material, stop) if counts else [],
    }


def _rows(material: Material, asked: dict[str, Any]) -> list[dict[str, Any]]:
    rows, left = [], _MOST_TOKENS
    for line in lines_of(material, asked):
        documents = _first_tokens(line, material, left)
        shown = sum(len(document["ids"]) for document in documents)
        tokens = int(sum(line.corpus.starts[number + 1] - line.corpus.starts[number] for number in line.documents))
        rows.append({**line.facts(), "documents": documents, "complete": shown == tokens})
        left -= shown
    return rows


def _first_tokens(line: Line, material: Material, most: int) -> list[dict[str, Any]]:
    """The documents of a line, as far as `most` tokens go."""
    documents = []
    for number in line.documents:
        if most <= 0:
            break
        (document,) = told(line.corpus, [number], material.tokenizer)
        documents.append(document | {name: document[name][:most] for name in ("ids", "pieces", "trained")})
        most -= len(document["ids"])
    return documents


def _step(material: Material, step: int, stop: StopFlag) -> dict[str, Any]:
    """Micro-batches of packed rows of documents, as step number `step` takes them: those of all processes."""
    stream = RowStream.of_job(material.rows, material.spec, Ranks(0, material.spec.resources.replicas))
    if step > 1:  # the first there is: to count all, all epochs are packed
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
                packed.append({"documents": told(row.corpus, row.documents, material.tokenizer)})
        batches.append({"rows": packed})
    return {"step": step, "batches": batches, "tokens": tokens, "complete": tokens <= _MOST_TOKENS}


def _check_there(step: int, stream: RowStream, hyper: Hyperparameters) -> None:
    """Raises SpecError: the run ends before that."""
    steps = hyper.max_steps or stream.steps_in(hyper.num_train_epochs or 1.0)
    if step > steps:
        raise SpecError("no_such_step", f"step is {step}, and the run has {steps}", f"Ask for {steps} or less.")
