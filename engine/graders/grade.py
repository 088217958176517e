"""Grading one row."""

import json
import re
from typing import Any, NamedTuple

from engine.graders.similarity import METRICS
from engine.graders.spec import RUNNABLE, Grader, StringCheck

_VARIABLE = re.compile(r"\{\{([^{}]+)\}\}")
_MAX_CHARACTERS = 100_000
"""Of a text that is compared: a template may repeat a value, and comparing takes time in the product of both lengths."""


class GraderError(ValueError):
    """A row cannot be graded; `variable` says that it lacks what a template names."""

    def __init__(self, message: str, *, variable: bool = False) -> None:
        super().__init__(message)
        self.variable = variable


class Graded(NamedTuple):
    """What a grader made of a row."""

    score: float
    passed: bool


def grade(grader: Grader, row: dict[str, Any]) -> Graded:
    """The score of a row, `{"item": {...}, "sample": {...}}`.

    Raises:
        GraderError: the row lacks a variable, or the grader cannot run here.
    """
    if not isinstance(grader, RUNNABLE):
        raise GraderError(f"a grader of type {grader.type!r} asks a model, and none is asked here")
    given, reference = (_filled(template, row) for template in (grader.input, grader.reference))
    if isinstance(grader, StringCheck):
        passed = _CHECKS[grader.operation](given, reference)
        return Graded(float(passed), passed)
    metric = METRICS.get(grader.evaluation_metric)
    if metric is None:
        known = ", ".join(METRICS)
        raise GraderError(f"evaluation_metric {grader.evaluation_metric!r} is not computed here; take one of {known}")
    score = metric(given, reference)
    return Graded(score, score >= (grader.pass_threshold or 0.0))


_CHECKS = {
    "eq": lambda given, reference: given == reference,
    "ne": lambda given, reference: given != reference,
    "like": lambda given, reference: reference in given,
    "ilike": lambda given, reference: reference.casefold() in given.casefold(),
}


def _filled(template: str, row: dict[str, Any]) -> str:
    """The template with the row's values in it: strings as they are, all else as JSON.

    Raises:
        GraderError: the row lacks a variable, or the text is too long; no more of it is made than that takes to see.
    """
    filled = ""
    for place, piece in enumerate(_VARIABLE.split(template)):
        filled += _value(piece.strip(), row) if place % 2 else piece
        if len(filled) > _MAX_CHARACTERS:
            raise GraderError(f"texts over {_MAX_CHARACTERS:,} characters are not compared")
    return filled


def _value(path: str, row: dict[str, Any]) -> str:
    found: Any = row
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            raise GraderError(f"the row has no {path!r}", variable=True)
        found = found[part]
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
