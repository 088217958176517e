"""Carrying out a job that trains nothing: the figures of the rows, and a file that tells of each."""

import json
import os
from pathlib import Path
from typing import Any

from engine.kinds.eval.objective import EvalObjective
from engine.kinds.eval.scores import Scores, compared
from engine.kinds.eval.spec import EvalSpec
from engine.session import Session


def score(session: Session) -> None:
    """Score the rows, write items.jsonl, and say `finished`.

    Raises:
        StopRequested: asked to stop before the end.
    """
    objective = session.objective
    assert isinstance(objective, EvalObjective), "only evaluations train nothing"
    assert isinstance(session.spec, EvalSpec), "as above"
    session.report_start(total_steps=0, start_step=0, eval_rows=len({row.line for row in objective.source}))
    scores = objective.score(session.subject, session.rows.validation, session.machine, session.stop, session.ranks)
    metrics, items = scores.metrics(), scores.items
    if session.spec.compare_to is not None:
        other = _score_baseline(session, objective)
        metrics |= compared(scores, other, session.spec.seed)
        items = [item | {"compare_to": rival} for item, rival in zip(items, other.items, strict=True)]
    if session.ranks.leads:
        _write(session.run.items, items)
    session.journal.metrics(0, "eval", metrics)
    session.journal.finish(0, metrics, groups=scores.by_group(), items=session.run.items.name)


def _score_baseline(session: Session, objective: EvalObjective) -> Scores:
    """The same rows through the model that is compared with; it takes the first one's place in memory."""
    session.drop_subject()
    session.subject = objective.load_baseline(session.machine)
    corpus = objective.rows(session.subject).validation
    return objective.score(session.subject, corpus, session.machine, session.stop, session.ranks)


def _write(path: Path, items: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
