"""Multiple choice, scored side by side in the three ways that are all called MMLU.

They differ in the prompt and in what counts as the model's answer (Hugging Face, "What's going on with the Open LLM
Leaderboard?", June 2023). All of them are computed from the likelihood of a text after a prompt.
"""

import string
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from engine.data.cut import LINES_TOLD, listed
from engine.data.source import SourceRow
from engine.errors import DataError
from engine.intervals import Figure
from engine.kinds.eval.reading import Reading
from engine.kinds.eval.scores import Scores, Setting
from engine.likelihood import Likelihood, Request, likelihoods, packed
from engine.model.load import Subject
from engine.rows import MultipleChoice

_ROWS_AT_ONCE = 64


class _Way(NamedTuple):
    """A way of scoring: its prompt, whether that begins with the topic, and whether answers are texts or letters."""

    question: str
    topic: bool
    texts: bool


_WAYS = {
    # Hendrycks et al. 2021 (arXiv:2009.03300): the likeliest of the letters counts.
    "original": _Way("{question}\n{choices}Answer:", topic=True, texts=False),
    # Liang et al. 2022 (arXiv:2211.09110): the right letter must be the likeliest of all tokens.
    "helm": _Way("Question: {question}\n{choices}Answer:", topic=True, texts=False),
    # EleutherAI's harness as of January 2023: the likeliest answer text counts, by sum or by character.
    "harness": _Way("Question: {question}\nChoices:\n{choices}Answer:", topic=False, texts=True),
}


def choice_scores(rows: list[SourceRow], shots: list[SourceRow], subject: Subject, setting: Setting) -> Scores:
    """Score the questions in all ways.

    Raises:
        DataError: a subject has fewer solved examples than the spec asks for.
    """
    solved = _by_subject([_choice_of(shot) for shot in shots])
    scored = setting.ranks.divide(
        _parts(rows, setting), lambda mine: [_scored(part, solved, subject, setting) for part in mine]
    )
    items = [item for made, _ in scored for item in made]
    cut = [line for _, lines in scored for line in lines]
    if cut:
        message = (
            f"{len(cut)} prompts lost their beginning to fit max_length {setting.max_length} (lines {listed(cut)})"
        )
        setting.journal.log("warn", "prompts_truncated", message, count=len(cut), lines=cut[:LINES_TOLD])
    questions = [_choice_of(row) for row in rows]
    return Scores(
        lines=[row.line for row in rows],
        figures={metric: Figure.share([item["correct"][way] for item in items]) for way, metric in _FIGURES.items()},
        items=items,
        facts=baselines(questions) | {"eval_rows": float(len(rows))},
        shares=True,
        groups=[question.subject for question in questions],
    )


def read_choices(
    rows: list[SourceRow], shots: list[SourceRow], tokenizer: PreTrainedTokenizerFast, setting: Setting
) -> Reading:
    """Count what `choice_scores` will put through a model: the same batches of the same prompts."""
    solved = _by_subject([_choice_of(shot) for shot in shots])
    lengths: list[int] = []
    cut: list[int] = []
    documents = 0
    for part in _parts(rows, setting):
        setting.stop.check()
        asked = _requests(part, solved, tokenizer, setting)
        lengths, cut = lengths + asked.lengths, cut + asked.cut
        for _, batch in packed(asked.requests, setting.token_budget):
            setting.passes.read(batch)
            documents += len(batch.segments)
    return Reading.of_prompts(lengths, documents, setting.passes.all, cut)


def _parts(rows: list[SourceRow], setting: Setting) -> list[list[SourceRow]]:
    """Split the rows into parts whose prompts share batches; each part is scored by one rank."""
    size = min(_ROWS_AT_ONCE, -(-len(rows) // setting.ranks.count))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class _Asked(NamedTuple):
    """The requests of some rows, each row's longest prompt with its answer in tokens, and the lines that were cut."""

    requests: list[Request]
    lengths: list[int]
    cut: list[int]


def _requests(
    rows: list[SourceRow], solved: dict[str, list[MultipleChoice]], tokenizer: PreTrainedTokenizerFast, setting: Setting
) -> _Asked:
    count = setting.spec.evaluation.num_fewshot
    requests: list[Request] = []
    lengths: list[int] = []
    cut: list[int] = []
    for row in rows:
        asked = _asked(_choice_of(row), _shots_of(row, solved, count))
        whole = [_encoded(tokenizer, prompt, answer) for prompt, answer in asked]
        lengths.append(max(len(context) + len(continuation) for context, continuation in whole))
        requests += [_cut(request, setting.max_length) for request in whole]
        if lengths[-1] - 1 > setting.max_length:
            cut.append(row.line)
    return _Asked(requests, lengths, cut)


def _scored(
    rows: list[SourceRow], solved: dict[str, list[MultipleChoice]], subject: Subject, setting: Setting
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the items of some rows, and the lines of those whose prompts were cut."""
    asked = _requests(rows, solved, subject.tokenizer, setting)
    scored = likelihoods(
        subject.model,
        asked.requests,
        setting.machine,
        setting.stop,
        token_budget=setting.token_budget,
        read=setting.passes.read,
    )
    answers = iter(scored)
    return [{"line": row.line, **_judged(_choice_of(row), answers)} for row in rows], asked.cut


_FIGURES = {
    "original": "eval_acc/original",
    "helm": "eval_acc/helm",
    "harness": "eval_acc/harness",
    "harness_norm": "eval_acc_norm/harness",
}


def baselines(questions: list[MultipleChoice]) -> dict[str, float]:
    """Return the accuracy of answering blindly: with always the same letter, the longest or the shortest choice."""
    found: dict[str, float] = {}
    for number in range(max(len(question.choices) for question in questions)):
        share = float(np.mean([question.answer == number for question in questions]))
        found[f"eval_baseline/always_{string.ascii_uppercase[number]}"] = share
    for name, chosen in (("longest", np.argmax), ("shortest", np.argmin)):
        picks = [int(chosen([len(choice) for choice in question.choices])) for question in questions]
        right = [pick == question.answer for pick, question in zip(picks, questions, strict=True)]
        found[f"eval_baseline/{name}_choice"] = float(np.mean(right))
    return found


def _choice_of(row: SourceRow) -> MultipleChoice:
    assert isinstance(row.row, MultipleChoice), "a file has one format"
    return row.row


def _by_subject(shots: list[MultipleChoice]) -> dict[str, list[MultipleChoice]]:
    found: defaultdict[str, list[MultipleChoice]] = defaultdict(list)
    for shot in shots:
        found[shot.subject].append(shot)
    return found


def _shots_of(row: SourceRow, solved: dict[str, list[MultipleChoice]], count: int) -> list[MultipleChoice]:
    """Return the first `count` examples of the row's subject, without the row itself, which would give its answer away."""
    question = _choice_of(row)
    shots = list(islice((shot for shot in solved.get(question.subject, []) if shot != question), count))
    if len(shots) < count:
        raise DataError(
            "too_few_examples",
            f"line {row.line} is of subject {question.subject!r}, of which fewshot_file has {len(shots)} rows besides it, "
            f"not {count}",
            "Lower num_fewshot, or add rows of that subject to fewshot_file.",
        )
    return shots


def _asked(question: MultipleChoice, shots: list[MultipleChoice]) -> list[tuple[str, str]]:
    """Return (prompt, answer) for each choice in each way, in the order in which `_judged` reads their likelihoods."""
    asked: list[tuple[str, str]] = []
    for way in _WAYS.values():
        prompt = _topic(question.subject) if way.topic else ""
        for shot in shots:
            prompt += f"{_question(way, shot)} {_answers(way, shot)[shot.answer]}\n\n"
        prompt += _question(way, question)
        asked += [(prompt, f" {answer}") for answer in _answers(way, question)]
    return asked


def _topic(subject: str) -> str:
    about = f" about {subject.replace('_', ' ')}" if subject else ""
    return f"The following are multiple choice questions (with answers){about}.\n\n"


def _question(way: _Way, question: MultipleChoice) -> str:
    lettered = "".join(f"{letter}. {text}\n" for letter, text in zip(question.letters, question.choices, strict=True))
    return way.question.format(question=question.question, choices=lettered)


def _answers(way: _Way, question: MultipleChoice) -> tuple[str, ...]:
    return question.choices if way.texts else tuple(question.letters)


def _encoded(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> Request:
    """Encode prompt and answer as one text, then split it: the tokens at a prompt's end may depend on what follows.

    lm_eval does the same. Of the special tokens that the tokenizer adds by itself, those in front (BOS) stay, and those
    at the end (EOS) are left out: no answer follows them.
    """
    encoded = tokenizer(prompt, return_special_tokens_mask=True)
    ids: list[int] = encoded["input_ids"]  # type: ignore[assignment]
    is_special: list[int] = encoded["special_tokens_mask"]  # type: ignore[assignment]
    leading = ids[: is_special.index(0)]
    text: list[int] = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    whole = [*leading, *text]
    split = min(len(leading) + is_special.count(0), len(whole) - 1)
    return Request(whole[:split], whole[split:])


def _cut(request: Request, max_length: int) -> Request:
    """Cut a request that is too long at its beginning."""
    context, continuation = request
    over = len(context) + len(continuation) - 1 - max_length
    return request if over <= 0 else Request(context[over:] or context[-1:], continuation[-max_length:])


def _judged(question: MultipleChoice, answers: Iterator[Likelihood]) -> dict[str, Any]:
    """Return a question's item from the next likelihoods: the answer chosen in each way, and whether it is right."""
    letters = question.letters
    by_way: dict[str, list[Likelihood]] = {name: [next(answers) for _ in letters] for name in _WAYS}
    sums = {name: np.array([one.logprob for one in scored]) for name, scored in by_way.items()}
    greedy = [number for number, one in enumerate(by_way["helm"]) if one.is_greedy]
    characters = np.array([len(choice) for choice in question.choices])
    chosen = {
        "original": int(sums["original"].argmax()),
        "helm": greedy[0] if greedy else None,
        "harness": int(sums["harness"].argmax()),
        "harness_norm": int((sums["harness"] / characters).argmax()),
    }
    return {
        "subject": question.subject,
        "answer": letters[question.answer],
        "chosen": {name: None if pick is None else letters[pick] for name, pick in chosen.items()},
        "correct": {name: pick == question.answer for name, pick in chosen.items()},
        "logprobs": {name: sums[name].tolist() for name in _WAYS},
    }
