"""Carrying out an evaluation job: metrics over the rows, and a file with an item for each."""

import json
import os
import time
from pathlib import Path
from typing import Any

from engine.data.corpus import Corpus
from engine.footprint import Footprint
from engine.kinds.eval.objective import EvalObjective
from engine.kinds.eval.scores import Scores, compared
from engine.kinds.eval.spec import EvalSpec
from engine.session import Session
from engine.tally import EvalPass, usage_of


def score(session: Session) -> None:
    """Score the rows, write items.jsonl and the event `finished`.

    Raises:
        StopRequested: a stop was requested before the end.
    """
    objective = session.objective
    assert isinstance(objective, EvalObjective), "only evaluations train nothing"
    assert isinstance(session.spec, EvalSpec), "as above"
    session.report_start(total_steps=0, start_step=0, eval_rows=len({row.line for row in objective.source}))
    scores, done = _score(session, objective, session.rows.validation)
    used = [done]
    metrics, items = scores.metrics(), scores.items
    if session.spec.compare_to is not None:
        # The baseline scores the same rows; it is loaded in the place of the first model.
        session.drop_subject()
        session.subject = objective.load_baseline(session.machine)
        other, done = _score(session, objective, objective.rows(session.subject).validation)
        used.append(done)
        metrics |= compared(scores, other, session.spec.seed)
        items = [item | {"compare_to": rival} for item, rival in zip(items, other.items, strict=True)]
    if session.ranks.leads:
        _write(session.run.items, items)
    session.journal.write("used", **usage_of(session, objective, used))
    session.journal.metrics(0, "eval", metrics)
    session.journal.finish(0, metrics, groups=scores.by_group(), items=session.run.items.name)


def _score(session: Session, objective: EvalObjective, corpus: Corpus | None) -> tuple[Scores, EvalPass]:
    """Return the scores of the rows by the loaded model, and the resources that this took."""
    footprint = Footprint(session.subject, session.machine)
    setting = objective.setting(session.machine, session.stop, session.ranks)
    start_s = time.perf_counter()
    scores = objective.score(session.subject, corpus, setting)
    spent_s = time.perf_counter() - start_s
    return scores, EvalPass(setting.passes.of_all(session.ranks), footprint.total(), spent_s)


def _write(path: Path, items: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
