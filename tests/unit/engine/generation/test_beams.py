"""Beam search: the answers of transformers' own, also beside other searches."""

from typing import Any

import pytest
import torch

from engine.errors import SpecError
from engine.generation.beams import Beams
from engine.generation.writer import Decoding, Writer
from tests import runs
from tests.unit.engine.generation.test_generate import prompts, writing

SEARCH = Decoding(9, num_beams=4)


def searched(made: Any, given: list[list[int]], decoding: Decoding, n: int) -> list[list[int]]:
    """Tokens of the n likeliest answers to each prompt."""
    writers = [Writer(made, decoding, row) for row in range(n * len(given))]
    beams = Beams(made)
    told = beams.join(given, writers)
    while beams.writers:
        told += beams.step()
    assert [told.count(writer) for writer in writers] == [len(writer.ids) for writer in writers]
    return [writer.ids for writer in writers]


def transformers_own(made: Any, prompt: list[int], decoding: Decoding, n: int) -> list[list[int]]:
    found = made.model.generate(
        torch.tensor([prompt]),
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        num_beams=decoding.num_beams,
        num_return_sequences=n,
        length_penalty=decoding.length_penalty,
        early_stopping=False,
        eos_token_id=sorted(Writer(made, decoding, 0).ends),
        pad_token_id=-1,
    )
    return [[token for token in answer[len(prompt) :].tolist() if token != -1] for answer in found]


def ending_soon(made: Any) -> Any:
    """Many of its tokens are ends, so that answers of many lengths are compared."""
    made.model.generation_config.eos_token_id = list(range(0, len(made.tokenizer), 9))
    return made


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_answers_are_those_of_transformers_own_search(family):
    made = writing(family)
    expected = [ids for prompt in prompts() for ids in transformers_own(made, prompt, SEARCH, 3)]
    assert searched(made, prompts(), SEARCH, 3) == expected


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0, 2.5])
def test_answers_of_many_lengths_are_compared_as_transformers_does(penalty: float):
    made, decoding = ending_soon(writing()), SEARCH._replace(length_penalty=penalty)
    expected = [ids for prompt in prompts() for ids in transformers_own(made, prompt, decoding, 4)]
    assert searched(made, prompts(), decoding, 4) == expected
    assert len({len(ids) for ids in expected}) > 1


def test_the_likeliest_answer_found_is_likelier_than_the_greedy_one():
    made = writing()
    told = []
    for beams in (1, 4):
        decoding = SEARCH._replace(num_beams=beams, logprobs=0)
        writers = [Writer(made, decoding, row) for row in range(len(prompts()))]
        search = Beams(made)
        search.join(prompts(), writers)
        while search.writers:
            search.step()
        told.append([sum(scores.logprob for scores in writer.scores) for writer in writers])
    greedy, found = told
    assert all(one <= other + 1e-5 for one, other in zip(greedy, found, strict=True))
    assert greedy != found


def test_who_joins_a_search_and_who_leaves_it_changes_no_other():
    made = writing()
    alone = [searched(made, [prompt], SEARCH, 2) for prompt in prompts()]
    beams, waiting = Beams(made), prompts()
    joined: list[list[Writer]] = []
    while beams.writers or waiting:
        if waiting:
            joined.append([Writer(made, SEARCH, row) for row in range(2)])
            beams.join([waiting.pop(0)], joined[-1])
        if len(joined) == 3:
            beams.keep(lambda writer: writer not in joined[1])
        beams.step()
    for number in (0, 2, 3, 4):
        assert [writer.ids for writer in joined[number]] == alone[number]
    assert not any(writer.ended for writer in joined[1])


def test_an_answer_ends_with_a_stop_string():
    made = writing()
    (whole,) = searched(made, prompts()[:1], SEARCH, 1)
    stop = made.tokenizer.decode(whole[2:4])
    writers = [Writer(made, SEARCH._replace(stop=(stop,)), 0)]
    beams = Beams(made)
    beams.join(prompts()[:1], writers)
    while beams.writers:
        beams.step()
    answer = writers[0].answer()
    assert stop not in answer.text
    assert answer.finished == (stop in made.tokenizer.decode(writers[0].ids))


def test_a_search_for_one_token_ends_with_its_first_step():
    made = writing()
    (likeliest, second) = searched(made, prompts()[:1], SEARCH._replace(max_new_tokens=1), 2)
    assert len(likeliest) == len(second) == 1
    assert likeliest != second


def test_more_beams_than_the_vocabulary_has_tokens_are_refused():
    """Fewer answers than beams might be found, and a writer without an answer would never end."""
    made = writing()
    beams = Decoding(1, num_beams=len(made.tokenizer) + 1)
    with pytest.raises(SpecError, match=f"the model has only {len(made.tokenizer)} tokens"):
        Beams(made).join(prompts()[:1], [Writer(made, beams, 0)])
