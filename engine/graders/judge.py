"""Grades by a model: the question, and the score or label in its answer."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from engine.graders.errors import GraderError
from engine.graders.spec import LabelModel, Message, SamplingParams, ScoreModel
from engine.graders.template import filled

_NUMBER = re.compile(
    r"(?P<of>(?:/|\bout\s+of\b)[\s*]*)?(?P<number>(?:(?<![\w.])-)?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.IGNORECASE
)
"""A hyphen after a word or number, as in `lines 4-6`, is no sign."""
_ANNOUNCED = re.compile(r"(?:[:=]|\bis)[\s*]*$", re.IGNORECASE)
_LONGEST_GRADE = 256
"""Tokens, unless the grader has a limit: a judge that rambles keeps the next row waiting."""


class Reply(NamedTuple):
    """A model's answer."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


Ask = Callable[[str, list[dict[str, str]], SamplingParams], Reply]
"""(model, messages, sampling) -> reply; raises GraderError when that model cannot answer this."""


def keeping(ask: Ask, replies: list[tuple[str, Reply]]) -> Ask:
    """Return an `ask` that also appends each reply with the model's name: it used tokens even if it is no grade."""

    def asking(model: str, messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        reply = ask(model, messages, sampling)
        replies.append((model, reply))
        return reply

    return asking


def judge(grader: ScoreModel | LabelModel, row: dict[str, Any], ask: Ask) -> tuple[float, bool]:
    """Return the score, and whether it passes.

    Raises:
        GraderError: the row lacks a variable, the model cannot answer, or its answer has no grade.
    """
    sampling = grader.sampling_params or SamplingParams()
    if sampling.max_completion_tokens is None:
        sampling = sampling.model_copy(update={"max_completion_tokens": _LONGEST_GRADE})
    reply = ask(grader.model, filled_messages(grader.input, row), sampling)
    if isinstance(grader, ScoreModel):
        low, high = grader.bounds
        score = _score(reply, low, high)
        threshold = (low + high) / 2 if grader.pass_threshold is None else grader.pass_threshold
        return score, score >= threshold
    passed = _label(reply.text, grader.labels) in grader.passing_labels
    return float(passed), passed


def question(messages: list[dict[str, str]], sampling: SamplingParams) -> dict[str, Any]:
    """Return the request to the resident engine (engine.resident)."""
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
    """Put the streamed parts of an answer together."""
    text, fields = "", dict[str, Any]()
    for part in parts:
        text += part.get("text", "")
        fields |= part
    return Reply(text, fields["prompt_tokens"], fields["completion_tokens"], fields["finish_reason"])


def filled_messages(messages: list[Message], row: dict[str, Any] | None = None) -> list[dict[str, str]]:
    """Return messages as the engine takes them, filled with the row's values; without a row they are not templates."""
    roles = {"developer": "system"}
    return [
        {
            "role": roles.get(message.role, message.role),
            "content": message.text if row is None else filled(message.text, row),
        }
        for message in messages
    ]


def _score(reply: Reply, low: float, high: float) -> float:
    if reply.finish_reason == "length":  # the score may be missing, or the number cut
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
    """Return the score in an answer: the last number before `/10` or `out of 10`, if the range ends at 10.

    A later number after `:`, `=` or `is` replaces it. Without such a phrase, the score is the last number.
    """
    last, of_all, ended = None, None, 0
    for found in _NUMBER.finditer(text):
        number, between = float(found["number"]), text[ended : found.start()]
        if found["of"] is None:
            last = number
            of_all = number if of_all is not None and _ANNOUNCED.search(between) else of_all
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
    """Strip what models like to put around a word."""
    return text.strip().strip(".\"'`*")


def _word(label: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(label)}(?!\w)", re.IGNORECASE)
