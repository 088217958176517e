"""Generation: a batch over a cache writes what each prompt alone and without a cache would."""

from typing import Any

import numpy as np
import pytest
import torch

from engine.generation import generate
from engine.generation import texts as grown
from engine.generation.generate import OWN_ATTENTION, Batch
from engine.generation.writer import Decoding, Writer, save_ends
from engine.model.attention import PACKED
from engine.model.forward import backbone_of, head_of
from engine.model.load import Subject
from engine.precision import Machine
from engine.stop import StopFlag, StopRequested
from tests import runs
from tests.invariants.test_packed_equals_unpacked import packed

CPU = Machine(torch.device("cpu"), "fp32")
GREEDY = Decoding(max_new_tokens=10)
LENGTHS = (3, 11, 1, 7, 19)


def subject(family: str = "llama") -> Subject:
    tokenizer = runs.tokenizer()
    model = runs.model(family, vocab_size=len(tokenizer)).eval()
    model.set_attn_implementation(PACKED)
    return Subject(model, tokenizer, "model")


def prompts() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(10, 300, length).tolist() for length in LENGTHS]


def texts(made: Subject, decoding: Decoding = GREEDY, rows_at_once: int = 5) -> list[str]:
    found = generate.generate(made, prompts(), decoding, CPU, StopFlag(), rows_at_once=rows_at_once)
    return [answer.text for answer in found]


def without_cache(made: Subject, prompt: list[int], new_tokens: int) -> list[int]:
    """The likeliest token again and again, every time from the whole text through the packed attention."""
    ids = list(prompt)
    for _ in range(new_tokens):
        batch = packed([torch.tensor([*ids, 0])])
        with torch.no_grad():
            ids.append(int(head_of(made.model)(backbone_of(made.model, batch)[-1]).argmax()))
        if ids[-1] == made.tokenizer.eos_token_id:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_a_batch_over_a_cache_writes_what_each_prompt_alone_without_a_cache_does(family):
    made = subject(family)
    ids = [without_cache(made, prompt, 10) for prompt in prompts()]
    assert texts(made) == [made.tokenizer.decode(answer, skip_special_tokens=True) for answer in ids]


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_answers_equal_those_of_transformers_own_generate(family):
    made: Any = subject(family)
    made.model.set_attn_implementation("eager")
    expected = [
        made.model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False)[0, len(prompt) :]
        for prompt in prompts()
    ]
    assert texts(made) == [made.tokenizer.decode(answer, skip_special_tokens=True) for answer in expected]


def test_a_padding_that_is_seen_would_be_noticed(monkeypatch):
    made, padded = subject(), grown._padded
    alone = texts(made, rows_at_once=1)
    monkeypatch.setattr(grown, "_padded", lambda given: (padded(given)[0], torch.ones_like(padded(given)[1])))
    assert texts(made) != alone


def test_a_sampled_answer_depends_on_seed_and_row_and_not_on_its_batch():
    made = subject()
    warm = GREEDY._replace(temperature=1.0, seed=(1,))
    assert texts(made, warm) == texts(made, warm, rows_at_once=2)
    assert texts(made, warm) != texts(made, warm._replace(seed=(2,)))
    assert texts(made, warm) != texts(made)


def test_sampling_draws_tokens_as_often_as_they_are_likely():
    made = subject()
    logits = torch.tensor([0.5, 0.2, 0.3]).log()
    writer = Writer(made, Decoding(5000, temperature=1.0, stop=()), 0)
    drawn = [writer.choose(logits) for _ in range(3000)]
    shares = np.bincount(drawn, minlength=3) / 3000
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.03)


def test_generating_leaves_random_state_mode_and_attention_as_they_were():
    made: Any = subject()
    made.model.train()
    before = torch.get_rng_state()
    texts(made, GREEDY._replace(temperature=1.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert made.model.training
    assert made.model.config._attn_implementation == PACKED


def test_an_answer_ends_before_a_stop_string():
    made = subject()
    whole = texts(made)
    stop = whole[1].strip()[2:5]
    cut = texts(made, GREEDY._replace(stop=(stop,)))
    assert cut == [text.partition(stop)[0] for text in whole]
    assert cut[1] != whole[1]


def test_a_stop_string_that_is_a_special_token_ends_an_answer():
    made = subject()
    writer = Writer(made, Decoding(9, stop=("never", "<|user|>")), 0)
    for token in made.tokenizer("ab<|user|>", add_special_tokens=False)["input_ids"]:
        assert not writer.finished
        writer.take(token, None)
    assert writer.answer() == ("ab", len(writer.ids), True)


def test_a_stop_string_ends_an_answer_across_special_tokens_that_its_text_leaves_out():
    made = subject()
    writer = Writer(made, Decoding(99, stop=("ab",)), 0)
    for token in made.tokenizer("xa" + "<|user|>" * 9 + "b", add_special_tokens=False)["input_ids"]:
        assert not writer.finished
        writer.take(token, None)
    assert writer.answer() == ("x", len(writer.ids), True)


def test_an_answer_ends_with_an_end_token_of_the_models_own_config():
    made: Any = subject()
    first = without_cache(made, prompts()[0], 3)
    made.model.generation_config.eos_token_id = [0, first[2]]
    answer = generate.generate(made, prompts()[:1], GREEDY, CPU, StopFlag(), rows_at_once=1)[0]
    assert (answer.tokens, answer.finished) == (3, True)


def test_generation_stops_between_tokens_when_it_is_asked_to():
    stop = StopFlag()
    stop.requested = True
    made: Any = subject()
    with pytest.raises(StopRequested):
        generate.generate(made, prompts(), GREEDY, CPU, stop, rows_at_once=2)
    assert made.model.config._attn_implementation == PACKED


def test_drawing_keeps_to_the_likeliest_tokens_that_together_have_top_p():
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    writer = Writer(subject(), Decoding(5000, temperature=1.0, top_p=0.7), 0)
    drawn = [writer.choose(logits) for _ in range(2000)]
    assert set(drawn) == {0, 1}
    assert drawn.count(0) / len(drawn) == pytest.approx(2 / 3, abs=0.05)


def test_a_top_p_of_next_to_nothing_is_greedy():
    writer = Writer(subject(), Decoding(50, temperature=2.0, top_p=1e-9), 0)
    assert {writer.choose(torch.tensor([0.1, 0.3, 0.2])) for _ in range(50)} == {1}


def test_a_temperature_of_next_to_nothing_is_greedy():
    writer = Writer(subject(), Decoding(50, temperature=1e-320), 0)
    assert {writer.choose(torch.tensor([-0.1, 0.3, 0.2])) for _ in range(20)} == {1}


def writing(family: str = "llama") -> Subject:
    made: Any = subject(family)
    made.model.set_attn_implementation(OWN_ATTENTION)
    return made


def test_each_token_of_a_batch_is_told_with_how_likely_it_was():
    made = writing()
    writers = [Writer(made, Decoding(6, logprobs=2), row) for row in range(len(LENGTHS))]
    batch = Batch(made)
    batch.join(prompts(), writers)
    wrote = [*writers]
    while batch.writers:
        wrote += batch.step()
    assert [wrote.count(writer) for writer in writers] == [len(writer.ids) for writer in writers]
    assert [writer.ids for writer in writers] == [without_cache(made, prompt, 6) for prompt in prompts()]
    for writer in writers:
        for token, scores in zip(writer.ids, writer.scores, strict=True):
            assert scores.likeliest[0] == (token, pytest.approx(scores.logprob))


@pytest.mark.parametrize("family", runs.ALL_FAMILIES)
def test_who_joins_a_batch_and_who_leaves_it_changes_no_other_answer(family):
    """One after the other, longer and shorter than those that are there; some end, some are taken out."""
    made = writing(family)
    lengths = (4, 12, 6, 3, 9)
    writers = [Writer(made, Decoding(length), row) for row, length in enumerate(lengths)]
    batch, waiting = Batch(made), list(zip(prompts(), writers, strict=True))
    while batch.writers or waiting:
        if waiting:
            prompt, writer = waiting.pop(0)
            batch.join([prompt], [writer])
        if batch.writers:
            batch.step()
        batch.keep(lambda writer: not (writer is writers[1] and len(writer.ids) >= 5))
    alone = [without_cache(made, prompt, length) for prompt, length in zip(prompts(), lengths, strict=True)]
    assert [writer.ids for writer in writers] == [alone[0], alone[1][: len(writers[1].ids)], *alone[2:]]
    assert len(writers[1].ids) >= 5 or made.tokenizer.eos_token_id in writers[1].ids


def test_what_nobody_sees_any_more_is_not_kept():
    made = writing()
    longest, shortest = prompts()[4], prompts()[2]
    ending, staying = (Writer(made, Decoding(length), row) for row, length in enumerate((2, 8)))
    batch = Batch(made)
    batch.join([longest, shortest], [ending, staying])
    batch.step()
    assert batch.writers == [staying]
    assert batch._texts._cache.layers[0].keys.shape[-2] == len(shortest) + 1
    while batch.writers:
        batch.step()
    assert staying.ids == without_cache(made, shortest, 8)


@pytest.mark.parametrize("named", [None, 7])
def test_the_tokenizer_s_end_is_saved_with_a_model_whose_config_lacks_it(named):
    made: Any = subject("qwen2")
    made.model.generation_config.eos_token_id = named
    save_ends(made.model, made.tokenizer)
    end = made.tokenizer.eos_token_id
    assert made.model.generation_config.eos_token_id == (end if named is None else sorted([end, named]))
