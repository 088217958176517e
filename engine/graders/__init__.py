"""Graders: whether an answer is right, by rules that need no model."""

from engine.graders.grade import Graded, GraderError, grade
from engine.graders.spec import GRADER, RUNNABLE, Grader, StringCheck, TextSimilarity

__all__ = ["GRADER", "RUNNABLE", "Graded", "Grader", "GraderError", "StringCheck", "TextSimilarity", "grade"]
