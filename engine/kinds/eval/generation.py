"""Generation: the answers that a model writes, compared with the last answer of each row."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from engine.data.answers import prompt_tokens
from engine.data.chat import ensure_chat_template
from engine.data.cut import LINES_TOLD
from engine.data.source import SourceRow
from engine.errors import DataError
from engine.generation.generate import generate, side_by_side
from engine.generation.writer import Answer, Decoding
from engine.intervals import Figure
from engine.kinds.eval.grading import answer_in, grade, pattern_for
from engine.kinds.eval.reading import Reading
from engine.kinds.eval.scores import Scores, Setting
from engine.model.load import Subject
from engine.rows import Message


def generation_scores(rows: list[SourceRow], shots: list[SourceRow], subject: Subject, setting: Setting) -> Scores:
    """Have the model answer each row and grade the answers. Prompts follow the chat template, examples are turns before.

    Raises:
        DataError: there are too few examples, or the pattern finds no answer in a reference.
    """
    settings = setting.spec.evaluation
    pattern, golds = _golds(rows, settings.answer_pattern)
    prompts = _prompts(rows, shots, subject.tokenizer, setting).tokens
    answers = setting.ranks.divide(range(len(rows)), lambda mine: _answers(prompts, mine, subject, setting))
    items: list[dict[str, Any]] = []
    for row, gold, answer in zip(rows, golds, answers, strict=True):
        items.append({"line": row.line, **_item(answer, gold, pattern)})
    figures = {"eval_exact_match": "correct", "eval_finished": "finished"}
    if pattern is not None:
        figures |= {"eval_exact_match/flexible": "correct_flexible", "eval_parseable": "parseable"}
    return Scores(
        lines=[row.line for row in rows],
        figures={name: Figure.share([item[key] for item in items]) for name, key in figures.items()},
        items=items,
        facts={"eval_rows": float(len(rows))},
        shares=True,
    )


def read_prompts(
    rows: list[SourceRow], shots: list[SourceRow], tokenizer: PreTrainedTokenizerFast, setting: Setting
) -> Reading:
    """Count what `generation_scores` will put through a model at most: each answer as long as it may be.

    Raises:
        DataError: as by `generation_scores`.
    """
    settings, ranks = setting.spec.evaluation, setting.ranks
    _golds(rows, settings.answer_pattern)
    prompts = _prompts(rows, shots, tokenizer, setting)
    for rank in range(ranks.count):
        mine = ranks.share(prompts.tokens, rank)
        _pass(mine, [settings.max_new_tokens] * len(mine), setting)
    return Reading.of_prompts(prompts.lengths, len(rows), setting.passes.all, prompts.cut)


def _golds(rows: list[SourceRow], asked: str | None) -> tuple[Any, list[str]]:
    """Return the pattern, and the answer that it finds in the reference of each row.

    Raises:
        DataError: it finds nothing in one of them.
    """
    pattern = pattern_for([_reference(row) for row in rows], asked)
    golds: list[str] = []
    for row in rows:
        gold = answer_in(_reference(row), pattern)
        if gold is None:
            message = f"line {row.line}: answer_pattern {asked!r} finds nothing in the reference"
            raise DataError("reference_without_answer", message, "Change answer_pattern, or correct the row.")
        golds.append(gold)
    return pattern, golds


def _pass(prompts: Sequence[list[int]], written: Sequence[int], setting: Setting) -> None:
    """Count the passes of one rank over its prompts, for answers of `written` tokens."""
    for rows in side_by_side(prompts, setting.spec.evaluation.per_device_eval_batch_size):
        setting.passes.write([len(prompts[row]) for row in rows], [written[row] for row in rows])


def _answers(prompts: list[list[int]], rows: Sequence[int], subject: Subject, setting: Setting) -> list[Answer]:
    settings, mine = setting.spec.evaluation, [prompts[row] for row in rows]
    answers = generate(
        subject,
        mine,
        Decoding(settings.max_new_tokens, settings.temperature, settings.stop, (setting.spec.seed,)),
        setting.machine,
        setting.stop,
        rows_at_once=settings.per_device_eval_batch_size,
        numbers=rows,
    )
    _pass(mine, [answer.tokens for answer in answers], setting)
    return answers


def _item(answer: Answer, gold: str, pattern: Any) -> dict[str, Any]:
    graded = grade(answer.text, gold, pattern)
    item = {
        "reference": gold,
        "answer": graded.answer,
        "correct": graded.correct,
        "text": answer.text,
        "tokens": answer.tokens,
        "finished": answer.finished,
    }
    if pattern is not None:
        item |= {"correct_flexible": graded.flexible, "parseable": graded.answer is not None}
    return item


def _messages(row: SourceRow) -> list[Message]:
    assert isinstance(row.row, list), "generation takes conversations"
    return row.row


def _reference(row: SourceRow) -> str:
    return _messages(row)[-1]["content"]


def _solved(row: SourceRow, shots: list[SourceRow], count: int) -> list[Message]:
    """Return the first `count` examples, without the row itself, which would give its answer away."""
    others = list(islice((shot for shot in shots if shot.row != row.row), count))
    if len(others) < count:
        message = f"fewshot_file has {len(others)} rows besides line {row.line}, not {count}"
        raise DataError("too_few_examples", message, "Lower num_fewshot, or add rows to fewshot_file.")
    return [message for shot in others for message in _messages(shot)]


class _Prompts(NamedTuple):
    """The tokens of each prompt, its length before it was cut at the beginning, and the lines that were cut."""

    tokens: list[list[int]]
    lengths: list[int]
    cut: list[int]


def _prompts(
    rows: list[SourceRow], shots: list[SourceRow], tokenizer: PreTrainedTokenizerFast, setting: Setting
) -> _Prompts:
    if ensure_chat_template(tokenizer):
        setting.journal.log("warn", "chat_template_added", "the model has no chat template; a plain one is used")
    count, room = setting.spec.evaluation.num_fewshot, setting.max_length - setting.spec.evaluation.max_new_tokens
    asked = [[*_solved(row, shots, count), *_messages(row)[:-1]] for row in rows]
    prompts = [prompt_tokens(talk, f"line {row.line}", tokenizer) for row, talk in zip(rows, asked, strict=True)]
    cut = [row.line for row, prompt in zip(rows, prompts, strict=True) if len(prompt) > room]
    if cut:
        message = f"{len(cut)} prompts lost their beginning: max_new_tokens leaves room for {room} tokens"
        setting.journal.log("warn", "prompts_truncated", message, count=len(cut), lines=cut[:LINES_TOLD])
    return _Prompts([prompt[-room:] for prompt in prompts], list(map(len, prompts)), cut)
