"""Asking a model for a grade: what it is asked, and what its words come to."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from engine.graders.errors import GraderError
from engine.graders.spec import LabelModel, Message, SamplingParams, ScoreModel
from engine.graders.template import filled

_NUMBER = re.compile(r"(?P<of>(?:/|\bout\s+of\b)[\s*]*)?(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.IGNORECASE)
_TOLD = re.compile(r"(?:[:=]|\bis)[\s*]*$", re.IGNORECASE)
_LONGEST_GRADE = 256
"""Tokens, unless the grader tells: a judge that rambles keeps the next row waiting."""


class Reply(NamedTuple):
    """What a model answered."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


Ask = Callable[[str, list[dict[str, str]], SamplingParams], Reply]
"""(model, messages, sampling) -> reply; raises GraderError when that model cannot answer this."""


def keeping(ask: Ask, replies: list[tuple[str, Reply]]) -> Ask:
    """Asks all the same, and keeps each reply with the model's name: it took tokens, whatever grade comes of it."""

    def asking(model: str, messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        reply = ask(model, messages, sampling)
        replies.append((model, reply))
        return reply

    return asking


def judge(grader: ScoreModel | LabelModel, row: dict[str, Any], ask: Ask) -> tuple[float, bool]:
    """The score, and whether it passes.

    Raises:
        GraderError: the row lacks a variable, the model cannot answer, or its answer is no grade.
    """
    sampling = grader.sampling_params or SamplingParams()
    if sampling.max_completion_tokens is None:
        sampling = sampling.model_copy(update={"max_completion_tokens": _LONGEST_GRADE})
    reply = ask(grader.model, said(grader.input, row), sampling)
    if isinstance(grader, ScoreModel):
        low, high = grader.bounds
        score = _score(reply, low, high)
        threshold = (low + high) / 2 if grader.pass_threshold is None else grader.pass_threshold
        return score, score >= threshold
    passed = _label(reply.text, grader.labels) in grader.passing_labels
    return float(passed), passed


def question(messages: list[dict[str, str]], sampling: SamplingParams) -> dict[str, Any]:
    """What the resident engine is asked (engine.resident)."""
    return {
        "ask": "chat",
        "messages": messages,
        "n": 1,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed % 2**63,
        "stop": [],
        "max_tokens": sampling.max_completion_tokens,
        "logprobs": None,
    }


def reply_of(parts: Iterable[dict[str, Any]]) -> Reply:
    """The answer that its parts make."""
    text, told = "", dict[str, Any]()
    for part in parts:
        text += part.get("text", "")
        told |= part
    return Reply(text, told["prompt_tokens"], told["completion_tokens"], told["finish_reason"])


def said(messages: list[Message], row: dict[str, Any] | None = None) -> list[dict[str, str]]:
    """Messages as an engine takes them, with the row's values in them; without a row they are no templates."""
    roles = {"developer": "system"}
    return [
        {
            "role": roles.get(message.role, message.role),
            "content": message.text if row is None else filled(message.text, row),
        }
        for message in messages
    ]


def _score(reply: Reply, low: float, high: float) -> float:
    if reply.finish_reason == "length":  # the score was still to come, or is the half of a number
        message = f"the model's answer was cut after {reply.completion_tokens} tokens; raise max_completions_tokens"
        raise GraderError(message, "model_grader_parse_error")
    score = _number(reply.text, high)
    if score is None:
        raise GraderError(f"the model's answer {reply.text[:100]!r} has no score in it", "model_grader_parse_error")
    if not low <= score <= high:
        message = f"the model's score {score:g} is not within {low:g} to {high:g}"
        raise GraderError(message, "model_grader_parse_error")
    return score


def _number(text: str, high: float) -> float | None:
    """The last number right before `/10` or `out of 10`, if the range ends at 10, or one behind it that `:`, `=` or `is` tells.

    Where none is so, the last that is no such end.
    """
    last, of_all, ended = None, None, 0
    for found in _NUMBER.finditer(text):
        number, between = float(found["number"]), text[ended : found.start()]
        if found["of"] is None:
            last = number
            of_all = number if of_all is not None and _TOLD.search(between) else of_all
        elif number == high and last is not None and not between.strip(" *"):
            of_all = last
        ended = found.end()
    return last if of_all is None else of_all


def _label(text: str, labels: list[str]) -> str:
    for bared in (str.strip, _bare):
        for label in labels:
            if bared(text).casefold() == bared(label).casefold():
                return label
    named = [(found.start(), -len(label), label) for label in labels if (found := _word(label).search(text))]
    if not named:
        raise GraderError(f"the model's answer {text[:100]!r} names none of the labels", "model_grader_parse_error")
    return min(named)[2]


def _bare(text: str) -> str:
    """Without what a model likes to put around a word."""
    return text.strip().strip(".\"'`*")


def _word(label: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(label)}(?!\w)", re.IGNORECASE)
