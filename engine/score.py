"""Carrying out a job that trains nothing: the figures of the rows, and a file that tells of each."""

import json
import os
from pathlib import Path
from typing import Any

from engine.kinds.eval.objective import EvalObjective
from engine.session import Session


def score(session: Session) -> None:
    """Score the rows, write items.jsonl, and say `finished`.

    Raises:
        StopRequested: asked to stop before the end.
    """
    objective = session.objective
    assert isinstance(objective, EvalObjective), "only evaluations train nothing"
    session.report_start(total_steps=0, start_step=0, eval_rows=len({row.line for row in objective.source}))
    scores = objective.score(session.subject, session.rows.validation, session.machine, session.stop)
    metrics = scores.metrics()
    _write(session.run.items, scores.items)
    session.journal.metrics(0, "eval", metrics)
    session.journal.finish(0, metrics, groups=scores.by_group(), items=session.run.items.name)


def _write(path: Path, items: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
