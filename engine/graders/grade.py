"""Grading of one row."""

from typing import Any, NamedTuple

from engine.graders.errors import GraderError
from engine.graders.formula import calculate
from engine.graders.judge import Ask, judge
from engine.graders.similarity import METRICS
from engine.graders.spec import Grader, LabelModel, Multi, Python, ScoreModel, StringCheck, TextSimilarity
from engine.graders.template import filled


class Graded(NamedTuple):
    """The grade of a row; `scores` has the score of each grader of a `multi`."""

    score: float
    passed: bool
    scores: dict[str, float] = {}  # noqa: RUF012 - never written to


def grade(grader: Grader, row: dict[str, Any], ask: Ask | None = None) -> Graded:
    """Grade a row, `{"item": {...}, "sample": {...}}`; `ask` gets a model's answer.

    Raises:
        GraderError: the row lacks a variable, a model gives no grade, or there is no `ask` for a model.
    """
    if isinstance(grader, Multi):
        return _together(grader, row, ask)
    if isinstance(grader, ScoreModel | LabelModel):
        if ask is None:
            raise GraderError(f"a grader of type {grader.type!r} asks a model, and no model can be asked here")
        return Graded(*judge(grader, row, ask))
    assert not isinstance(grader, Python), "none comes through validation"
    return _compared(grader, row)


def _together(grader: Multi, row: dict[str, Any], ask: Ask | None) -> Graded:
    graded = {name: grade(one, row, ask) for name, one in grader.graders.items()}
    scores = {name: one.score for name, one in graded.items()}
    try:
        score = calculate(grader.calculate_output, scores)
    except ValueError as error:
        raise GraderError(str(error), "formula_parse_error") from error
    passed = (
        all(one.passed for one in graded.values()) if grader.pass_threshold is None else score >= grader.pass_threshold
    )
    return Graded(score, passed, scores)


def _compared(grader: StringCheck | TextSimilarity, row: dict[str, Any]) -> Graded:
    given, reference = (filled(template, row) for template in (grader.input, grader.reference))
    if isinstance(grader, StringCheck):
        passed = _CHECKS[grader.operation](given, reference)
        return Graded(float(passed), passed)
    score = METRICS[grader.evaluation_metric](given, reference)
    return Graded(score, score >= (grader.pass_threshold or 0.0))


_CHECKS = {
    "eq": lambda given, reference: given == reference,
    "ne": lambda given, reference: given != reference,
    "like": lambda given, reference: reference in given,
    "ilike": lambda given, reference: reference.casefold() in given.casefold(),
}
