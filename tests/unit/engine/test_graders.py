"""Graders: what passes, how alike texts are, and what a row lacks."""

import time
import tracemalloc
from typing import Any

import pytest

from engine.graders import GRADER, GraderError, grade
from engine.graders.similarity import METRICS

ROW = {"item": {"answer": "Forty two", "deep": {"n": 42}}, "sample": {"output_text": "forty two"}}


def check(operation: str, given: str = "{{sample.output_text}}", reference: str = "{{ item.answer }}") -> Any:
    told = {"type": "string_check", "name": "a", "input": given, "reference": reference, "operation": operation}
    return GRADER.validate_python(told)


@pytest.mark.parametrize(("operation", "passed"), [("eq", False), ("ne", True), ("like", False), ("ilike", True)])
def test_strings_are_compared_as_the_operation_says(operation, passed):
    assert grade(check(operation), ROW) == (float(passed), passed)


def test_a_value_that_is_no_string_is_written_as_json():
    assert grade(check("eq", "{{item.deep}} {{item.deep.n}}", '{"n": 42} 42'), ROW).passed


def test_a_variable_that_the_row_lacks_is_told():
    with pytest.raises(GraderError, match=r"no 'item\.none'") as told:
        grade(check("eq", "{{item.none}}"), ROW)
    assert told.value.variable


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


def test_a_metric_that_is_not_computed_here_is_told_with_those_that_are():
    told = {"type": "text_similarity", "name": "a", "input": "a", "reference": "b", "evaluation_metric": "cosine"}
    with pytest.raises(GraderError, match="rouge_l"):
        grade(GRADER.validate_python(told), ROW)
