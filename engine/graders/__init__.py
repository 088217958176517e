"""Graders: scores for answers, by rules or by a model (OpenAI's grader types)."""

from engine.graders.errors import GraderError
from engine.graders.grade import Graded, grade
from engine.graders.judge import Ask, Reply, filled_messages, keeping, question, reply_of
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
    "filled_messages",
    "grade",
    "keeping",
    "models_of",
    "question",
    "reply_of",
    "sample_of",
    "value",
]
