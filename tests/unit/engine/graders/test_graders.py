"""Graders: what passes, how alike texts are, and what a row lacks."""

import time
import tracemalloc
from typing import Any

import pytest
from pydantic import ValidationError

from engine.graders import GRADER, Ask, GraderError, Reply, SamplingParams, grade, keeping
from engine.graders.similarity import METRICS

ROW = {"item": {"answer": "Forty two", "deep": {"n": 42}}, "sample": {"output_text": "forty two"}}


def check(operation: str, given: str = "{{sample.output_text}}", reference: str = "{{ item.answer }}") -> Any:
    told = {"type": "string_check", "name": "a", "input": given, "reference": reference, "operation": operation}
    return GRADER.validate_python(told)


@pytest.mark.parametrize(("operation", "passed"), [("eq", False), ("ne", True), ("like", False), ("ilike", True)])
def test_strings_are_compared_as_the_operation_says(operation, passed):
    assert grade(check(operation), ROW)[:2] == (float(passed), passed)


def test_a_value_that_is_no_string_is_written_as_json():
    assert grade(check("eq", "{{item.deep}} {{item.deep.n}}", '{"n": 42} 42'), ROW).passed


def test_a_variable_that_the_row_lacks_is_told():
    with pytest.raises(GraderError, match=r"no 'item\.none'") as told:
        grade(check("eq", "{{item.none}}"), ROW)
    assert told.value.kind == "invalid_variable_error"


def test_values_are_not_read_as_templates():
    row = {"item": {"answer": "x"}, "sample": {"output_text": "{{item.answer}}"}}
    assert not grade(check("eq"), row).passed


@pytest.mark.parametrize("operation", ["eq", "ilike"])
def test_a_text_is_filled_no_further_than_it_may_be_compared(operation):
    row = {"item": {"answer": "x" * 90_000}, "sample": {"output_text": ""}}
    tracemalloc.start()
    with pytest.raises(GraderError, match="100,000"):
        grade(check(operation, "{{item.answer}}" * 900), row)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**20


def test_a_template_of_blanks_is_read_in_no_time():
    began = time.process_time()
    grade(check("eq", "{{" + " " * 50_000), ROW)
    assert time.process_time() - began < 1


# The figures of rouge-score 0.1.2, nltk 3.10 and sacrebleu 2.6 for the same texts.
@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("rouge_1", 0.6666666666666666),
        ("rouge_2", 0.20000000000000004),
        ("rouge_l", 0.6666666666666666),
        ("gleu", 0.2777777777777778),
        ("fuzzy_match", 0.8292682926829268),
        ("bleu", 0.19304869754804482),
    ],
)
def test_texts_are_alike_by_each_metric(metric, score):
    assert METRICS[metric]("the cat sat on a mat", "the cat is on the mat") == pytest.approx(score)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_the_same_text_is_as_alike_as_can_be_and_another_is_not_alike(metric):
    text = "one two three four five six"
    assert METRICS[metric](text, text) == pytest.approx(1)
    assert METRICS[metric]("", text) == 0


@pytest.mark.parametrize("text", ["привет, мир", "हिन्दी", "≥", "Café Zürich", "今日は 良い 天気", "...", "yes"])
@pytest.mark.parametrize("metric", [metric for metric in sorted(METRICS) if metric.startswith("rouge")])
def test_the_same_text_is_alike_in_any_script_and_however_short_it_is(metric, text):
    assert METRICS[metric](text, text) == 1


def test_short_texts_that_differ_are_not_alike():
    assert METRICS["rouge_2"]("yes", "no") == METRICS["rouge_1"]("caf", "café") == 0
    assert METRICS["rouge_1"]("हिन्दी", "हिन्दू") == METRICS["rouge_l"]("+", "-") == METRICS["rouge_1"]("", "≥") == 0


@pytest.mark.parametrize(("threshold", "passed"), [(0.8, True), (0.9, False), (None, True)])
def test_a_similarity_passes_from_its_threshold_on(threshold, passed):
    told = {
        "type": "text_similarity",
        "name": "a",
        "input": "the cat sat on a mat",
        "reference": "the cat is on the mat",
    }
    grader = GRADER.validate_python(told | {"evaluation_metric": "fuzzy_match", "pass_threshold": threshold})
    assert grade(grader, ROW).passed is passed


@pytest.mark.parametrize("metric", ["cosine", "meteor"])
def test_a_metric_that_is_not_computed_here_is_refused_and_those_that_are_are_told(metric):
    told = {"type": "text_similarity", "name": "a", "input": "a", "reference": "b", "evaluation_metric": metric}
    with pytest.raises(ValidationError, match=r"not computed here.*rouge_l"):
        GRADER.validate_python(told)


JUDGE = {"name": "judge", "model": "m", "input": [{"role": "developer", "content": "Grade {{sample.output_text}}."}]}
SCORE = GRADER.validate_python(JUDGE | {"type": "score_model", "range": [0, 10]})
LABEL = GRADER.validate_python(
    JUDGE | {"type": "label_model", "labels": ["good", "bad", "very good"], "passing_labels": ["good", "very good"]}
)


def saying(text: str, heard: list[Any] | None = None, finish_reason: str = "stop") -> Ask:
    """A model that always says this."""

    def ask(_model: str, messages: list[dict[str, str]], _sampling: SamplingParams) -> Reply:
        if heard is not None:
            heard.extend(messages)
        return Reply(text, 3, 2, finish_reason)

    return ask


def test_a_model_is_told_what_the_row_holds():
    heard: list[Any] = []
    grade(SCORE, ROW, saying("7", heard))
    assert heard == [{"role": "system", "content": "Grade forty two."}]


@pytest.mark.parametrize(
    ("text", "score", "passed"),
    [
        ("7", 7.0, True),
        ("Of 10, I say: 4.5", 4.5, False),
        ("5.0.", 5.0, True),
        ("1e1", 10.0, True),
        ("It is .5", 0.5, False),
        ("6.", 6.0, True),
    ],
)
def test_a_score_is_the_last_number_that_a_model_says(text, score, passed):
    assert grade(SCORE, ROW, saying(text))[:2] == (score, passed)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("8/10", 8.0),
        ("Score: 4 out of 5", 4.0),
        ("**8** / 10", 8.0),
        ("8/10. It has 3 mistakes.", 8.0),
        ("Clarity: 8/10, depth: 6/10. Final score: 7", 7.0),
        ("Style 10/10. Overall: 3", 3.0),
        ("Mistakes: 2. I give it 7", 7.0),
        ("10/10 would be perfect: 7/10", 7.0),
        ("6 points out of 10", 6.0),
        ("Out of 10, with 3 mistakes, I say 8", 8.0),
        ("Seen on 12/5. Score: 7", 7.0),
    ],
)
def test_what_a_score_is_out_of_is_no_score(text, score):
    assert grade(SCORE, ROW, saying(text)).score == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("The best answer; see lines 4-6", 6),
        ("It covers 2010-8", 8),
        ("As good as GPT-4", 4),
        ("-6", -6),
        ("Score:-6", -6),
        ("I say **-6**", -6),
        ("-6/10", -6),
    ],
)
def test_a_hyphen_after_a_word_or_number_is_no_sign(text, score):
    grader = GRADER.validate_python(JUDGE | {"type": "score_model", "range": [-10, 10]})
    assert grade(grader, ROW, saying(text)).score == score


def test_a_score_that_was_cut_is_none():
    with pytest.raises(GraderError, match="cut after 2 tokens") as told:
        grade(SCORE, ROW, saying("Score: 1", finish_reason="length"))
    assert told.value.kind == "model_grader_parse_error"


@pytest.mark.parametrize("text", ["1" * 100_000, "1 " * 50_000, "/" + " " * 100_000, "1 out" + " " * 100_000])
def test_a_score_is_looked_for_in_no_time(text):
    began = time.process_time()
    with pytest.raises(GraderError):
        grade(SCORE, ROW, saying(text + " 11"))
    assert time.process_time() - began < 1


@pytest.mark.parametrize(("told", "most"), [(None, 256), ({}, 256), ({"max_completions_tokens": 1000}, 1000)])
def test_a_grade_has_little_room_unless_more_is_told(told, most):
    asked: list[SamplingParams] = []

    def ask(_model: str, _messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        asked.append(sampling)
        return Reply("7", 3, 2, "stop")

    grade(GRADER.validate_python(JUDGE | {"type": "score_model", "range": [0, 10], "sampling_params": told}), ROW, ask)
    assert asked[0].max_completion_tokens == most


def test_sampling_parameters_of_null_are_the_defaults_and_another_null_is_unknown():
    nulls = dict.fromkeys(("seed", "temperature", "top_p", "reasoning_effort", "max_tokens"))
    assert SamplingParams.model_validate(nulls | {"max_completions_tokens": 5}) == SamplingParams(
        max_completion_tokens=5
    )
    for wrong in ({"sede": None}, {"reasoning_effort": "low"}):
        with pytest.raises(ValidationError):
            SamplingParams.model_validate(wrong)


def test_a_grader_shows_its_limit_as_openais_graders_spell_it_and_can_be_sent_back():
    grader = GRADER.validate_python(JUDGE | {"type": "score_model", "sampling_params": {"max_completion_tokens": 9}})
    dumped = grader.model_dump(mode="json")
    assert dumped["sampling_params"] == {"temperature": 0.0, "top_p": 1.0, "seed": 0, "max_completions_tokens": 9}
    assert GRADER.validate_python(dumped) == grader
    assert GRADER.validate_python(multi("b")).model_dump()["graders"]["b"]["sampling_params"] is None
    assert "max_completion_tokens" in SamplingParams().model_dump()


@pytest.mark.parametrize(
    "changes",
    [{"range": [5, 1]}, {"range": [1, 1]}, {"range": [1, 5], "pass_threshold": 0.5}, {"pass_threshold": 3}],
)
def test_a_range_or_threshold_that_no_score_can_meet_is_refused(changes):
    with pytest.raises(ValidationError, match=r"range|pass_threshold"):
        GRADER.validate_python(JUDGE | {"type": "score_model"} | changes)


def test_an_answer_has_all_the_room_there_is():
    assert SamplingParams().max_completion_tokens is None


def test_what_a_model_said_is_kept_though_it_is_no_grade():
    replies: list[Any] = []
    score = SCORE.model_dump(exclude_none=True)
    graders = {"b": score, "c": score | {"range": [0, 1]}}
    with pytest.raises(GraderError):
        grade(GRADER.validate_python(multi("b + c", graders=graders)), ROW, keeping(saying("5"), replies))
    assert [(model, reply.text) for model, reply in replies] == [("m", "5"), ("m", "5")]


@pytest.mark.parametrize("text", ["", "none", "11", "-1"])
def test_what_is_no_score_within_the_range_is_told(text):
    with pytest.raises(GraderError) as told:
        grade(SCORE, ROW, saying(text))
    assert told.value.kind == "model_grader_parse_error"


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("good", True),
        (" Bad.", False),
        ("It is very good, not bad", True),
        ("bad: not good", False),
        ("**GOOD**", True),
    ],
)
def test_a_label_is_the_one_that_a_model_says(text, passed):
    assert grade(LABEL, ROW, saying(text))[:2] == (float(passed), passed)


def test_a_label_may_end_as_a_sentence_does():
    label = JUDGE | {"type": "label_model", "labels": ["No.", "Yes."], "passing_labels": ["Yes."]}
    assert grade(GRADER.validate_python(label), ROW, saying("Yes.")).passed
    assert grade(GRADER.validate_python(label), ROW, saying("yes")).passed


def test_a_word_that_holds_a_label_names_none():
    with pytest.raises(GraderError, match="names none"):
        grade(LABEL, ROW, saying("goodness"))


def multi(formula: str, **changes: Any) -> Any:
    graders = {"a": check("ilike").model_dump(), "b": SCORE.model_dump(exclude_none=True)}
    return {"type": "multi", "name": "both", "graders": graders, "calculate_output": formula} | changes


def test_a_formula_puts_scores_together():
    grader = GRADER.validate_python(multi("0.5 * a + max(b, 1) / 10 - -2 ** 2", pass_threshold=5))
    graded = grade(grader, ROW, saying("5"))
    assert (graded.score, graded.passed, graded.scores) == (0.5 + 0.5 + 4.0, True, {"a": 1.0, "b": 5.0})


@pytest.mark.parametrize("formula", ["a / (b - b)", "10 ** 9999", "log(0 * b)", "(0 - b) ** 0.5"])
def test_a_formula_without_a_number_is_told(formula):
    with pytest.raises(GraderError) as told:
        grade(GRADER.validate_python(multi(formula)), ROW, saying("5"))
    assert told.value.kind == "formula_parse_error"


@pytest.mark.parametrize(
    "formula",
    ["c", "a +", "__import__('os')", "a.real", "a if b else a", "[a]", "'a' * 10", "abs(*a)", "max(a, key=b)", "(" * 900,
     "max()", "a and b", "lambda: a", "True", "max", "a + min", "a(b)", "-" * 999 + "a"],
)  # fmt: skip
def test_a_formula_is_arithmetic_and_nothing_else(formula):
    with pytest.raises(ValidationError, match="calculate_output"):
        GRADER.validate_python(multi(formula))


def test_a_grader_may_have_the_name_of_a_function():
    graders = {"max": check("ilike").model_dump(), "b": SCORE.model_dump(exclude_none=True)}
    assert grade(GRADER.validate_python(multi("max(max, b)", graders=graders)), ROW, saying("5")).score == 5


@pytest.mark.parametrize("formula", ["-" * 198 + "a", "abs(" * 190 + "a" + ")" * 190, "+".join(["a"] * 199)])
def test_a_formula_that_is_taken_is_calculated_however_deep_it_is(formula):
    assert grade(GRADER.validate_python(multi(formula)), ROW, saying("5")).score in {1, 199}


def test_one_grader_alone_goes_by_its_own_name():
    graders = SCORE.model_dump(exclude_none=True)
    grader = GRADER.validate_python(multi("judge / 10", graders=graders))
    assert grade(grader, ROW, saying("5")).score == 0.5


def test_code_is_not_run():
    with pytest.raises(ValidationError, match="graders of type python are not run here"):
        GRADER.validate_python({"type": "python", "name": "p", "source": "def grade(sample, item): return 1.0"})
