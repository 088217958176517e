"""Graders: whether an answer is right, by rules and by what a model says."""

from engine.graders.errors import GraderError
from engine.graders.grade import Graded, grade
from engine.graders.judge import Ask, Reply, keeping, question, reply_of, said
from engine.graders.spec import (
    GRADER,
    Grader,
    Message,
    Multi,
    SamplingParams,
    StringCheck,
    TextSimilarity,
    models_of,
)
from engine.graders.template import sample_of, value

__all__ = [
    "GRADER",
    "Ask",
    "Graded",
    "Grader",
    "GraderError",
    "Message",
    "Multi",
    "Reply",
    "SamplingParams",
    "StringCheck",
    "TextSimilarity",
    "grade",
    "keeping",
    "models_of",
    "question",
    "reply_of",
    "said",
    "sample_of",
    "value",
]
