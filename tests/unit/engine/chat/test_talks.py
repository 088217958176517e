"""Several questions at once: each gets the answer that it would get alone, and none waits for another's end."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.chat import room
from engine.chat import talk as talk_under_test
from engine.chat import talks as under_test
from engine.chat.room import NotNow
from engine.chat.talks import Said, Talks
from engine.chat.weights import Weights
from engine.errors import OutOfMemory
from engine.generation.generate import Batch
from engine.precision import Machine
from engine.stop import StopFlag
from tests import runs


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("talks")
    for name, width in (("one", 32), ("two", 64), ("three", 48)):
        runs.save_base(folder / name / "model", width=width)
    return {name: folder / name for name in ("one", "two", "three")}


@pytest.fixture
def talks() -> Talks:
    weights = Weights(Machine.choose("cpu", "fp32"))
    return Talks(lambda: weights)


def asked(place: Path, prompt: str | list[int] = "the cat", **more: Any) -> dict[str, Any]:
    return {
        "ask": "complete",
        "prompts": [prompt],
        "n": 1,
        "max_tokens": 8,
        "temperature": 0,
        "stop": [],
        "seed": 0,
        "top_p": 1.0,
        "logprobs": None,
        "run_dir": str(place),
        "digests": {"model": place.name},
    } | more


def texts(said: list[Said]) -> dict[int, str]:
    """What each question has been told."""
    found: dict[int, str] = {}
    for number, told in said:
        if isinstance(told, dict) and "text" in told:
            found[number] = found.get(number, "") + told["text"]
    return found


def steps(talks: Talks) -> Iterator[list[Said]]:
    while talks:
        yield list(talks.step())


def alone(place: Path, prompt: str, **more: Any) -> str:
    weights = Weights(Machine.choose("cpu", "fp32"))
    only = Talks(lambda: weights)
    said = list(only.begin(1, asked(place, prompt, **more), StopFlag()))
    return texts([*said, *(one for step in steps(only) for one in step)])[1]


def test_questions_to_the_same_weights_take_each_step_together(talks: Talks, places, monkeypatch):
    told, taken = [], []
    monkeypatch.setattr(Batch, "step", lambda batch, step=Batch.step: (taken.append(batch), step(batch))[1])
    told += talks.begin(1, asked(places["one"], "the cat", max_tokens=12), StopFlag())
    told += talks.step()
    told += talks.begin(2, asked(places["one"], "what is plus?"), StopFlag())
    for step in steps(talks):
        told += step
    assert len(taken) == 11  # of twelve tokens the first is written when the prompt is read
    assert texts(told) == {
        1: alone(places["one"], "the cat", max_tokens=12),
        2: alone(places["one"], "what is plus?"),
    }
    ends = [number for number, what in told if what is None]
    assert sorted(ends) == [1, 2]


def test_a_question_to_other_weights_goes_on_beside_a_long_one(talks: Talks, places):
    list(talks.begin(1, asked(places["one"], max_tokens=100), StopFlag()))
    told = list(talks.begin(2, asked(places["two"], max_tokens=3), StopFlag()))
    for _ in range(3):
        told += talks.step()
    assert Said(2, None) in told
    assert Said(1, None) not in told


def test_one_that_is_to_stop_leaves_and_the_other_goes_on(talks: Talks, places):
    stop = StopFlag()
    told = list(talks.begin(1, asked(places["one"], max_tokens=100), stop))
    told += talks.begin(2, asked(places["one"], "what is plus?"), StopFlag())
    stop.requested = True
    for step in steps(talks):
        told += step
    assert [said for said in told if said.number == 1][-1] == Said(1, None)
    assert texts(told)[2] == alone(places["one"], "what is plus?")


def test_one_that_is_to_stop_while_others_are_told_has_an_end(talks: Talks, places):
    """Its flag is set by another thread, in the middle of a step."""
    stops = [StopFlag(), StopFlag()]
    for number, stop in enumerate(stops):
        list(talks.begin(number, asked(places["one"], max_tokens=100), stop))
    stops[1].requested = True
    told = []
    for said in talks.step():
        told.append(said)
        stops[0].requested = True
    told += [said for step in steps(talks) for said in step]
    assert sorted(number for number, what in told if what is None) == [0, 1]


def test_a_step_that_fails_ends_those_that_took_it_and_no_others(talks: Talks, places, monkeypatch):
    list(talks.begin(1, asked(places["one"]), StopFlag()))
    list(talks.begin(2, asked(places["two"], "what is plus?"), StopFlag()))
    broken = next(iter(talks._groups.values())).batch
    monkeypatch.setattr(broken, "step", lambda: (_ for _ in ()).throw(MemoryError("no room")))
    told = [said for step in steps(talks) for said in step]
    assert isinstance(next(what for number, what in told if number == 1), MemoryError)
    assert Said(2, None) in told


def test_one_that_fails_as_it_begins_leaves_the_others_alone(talks: Talks, places, monkeypatch):
    told = list(talks.begin(1, asked(places["one"], max_tokens=12), StopFlag()))
    monkeypatch.setattr(under_test.Talk, "part", lambda *_: 1 / 0)
    *_, last = talks.begin(2, asked(places["one"], "what is plus?"), StopFlag())
    assert (last.number, type(last.payload)) == (2, ZeroDivisionError)
    monkeypatch.undo()
    told += [said for step in steps(talks) for said in step]
    assert texts(told) == {1: alone(places["one"], "the cat", max_tokens=12)}


def test_where_the_length_of_others_would_change_an_answer_each_is_by_itself(talks: Talks, places, monkeypatch):
    monkeypatch.setattr(under_test, "_LENGTH_MATTERS", {"default"})
    for number in (1, 2):
        list(talks.begin(number, asked(places["one"]), StopFlag()))
    assert [len(group.talks) for group in talks._groups.values()] == [1, 1]


def test_a_question_waits_for_room_of_tokens(talks: Talks, places, monkeypatch):
    monkeypatch.setattr(under_test, "_MOST_TOKENS", 5 * (18 + 8))
    list(talks.begin(1, asked(places["one"], n=4), StopFlag()))
    assert talks.has_room(asked(places["one"], "a" * 54))
    assert not talks.has_room(asked(places["one"], "a" * 66))


def test_a_long_answer_of_one_model_leaves_room_for_short_ones_of_another(talks: Talks, places, monkeypatch):
    monkeypatch.setattr(under_test, "_MOST_TOKENS", 300)
    list(talks.begin(1, asked(places["one"], max_tokens=180), StopFlag()))
    assert talks.has_room(asked(places["two"], n=4))
    assert not talks.has_room(asked(places["one"], n=4))  # in one batch, all would be padded


def test_of_a_large_max_tokens_no_more_is_reserved_than_without_one(talks: Talks, places, monkeypatch):
    monkeypatch.setattr(under_test, "_MOST_TOKENS", 300)
    reserving(monkeypatch, 16)
    list(talks.begin(1, asked(places["one"], max_tokens=200), StopFlag()))
    assert talks.has_room(asked(places["one"], max_tokens=200))


def test_no_more_are_taken_than_have_room_when_all_have_grown(talks: Talks, places, monkeypatch):
    monkeypatch.setattr(under_test, "_MOST_TOKENS", 200)
    taken = 0
    while taken < 20 and talks.has_room(asked(places["one"], max_tokens=40)):
        list(talks.begin(taken, asked(places["one"], max_tokens=40), StopFlag()))
        taken += 1
    assert taken > 1
    most = 0
    for _ in steps(talks):
        most = max([most, *(group.batch.rows * group.batch._texts.width for group in talks._groups.values())])
    assert most <= 200


def test_where_memory_ends_as_one_leaves_everybody_hears_of_one_end(talks: Talks, places, monkeypatch):
    stops = [StopFlag() for _ in range(3)]
    for number, stop in enumerate(stops):
        list(talks.begin(number, asked(places["one"], max_tokens=100), stop))
    stops[1].requested = True
    monkeypatch.setattr(Batch, "keep", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    told = [said for step in steps(talks) for said in step]
    ends = {number: what for number, what in told if not isinstance(what, dict)}
    assert len(ends) == len([what for _, what in told if not isinstance(what, dict)]) == 3
    assert ends[1] is None
    assert all(isinstance(ends[number], MemoryError) for number in (0, 2))


def test_a_question_waits_for_room_of_rows_and_of_bases(talks: Talks, places, monkeypatch):
    monkeypatch.setattr(under_test, "_MOST_ROWS", 3)
    assert talks.has_room(asked(places["one"], n=5))  # nobody is there to wait for
    list(talks.begin(1, asked(places["one"], n=2), StopFlag()))
    assert talks.has_room(asked(places["two"]))
    assert not talks.has_room(asked(places["one"], n=2))
    list(talks.begin(2, asked(places["two"]), StopFlag()))
    assert not talks.has_room(asked(places["three"]))
    for _ in steps(talks):
        pass
    assert talks.has_room(asked(places["three"], n=5))


def reserving(monkeypatch, tokens: int) -> None:
    monkeypatch.setattr(talk_under_test, "LONGEST_ANSWER", tokens)


def test_answers_that_nobody_limits_go_on_side_by_side_beyond_their_room(talks: Talks, places, monkeypatch):
    monkeypatch.setattr(under_test, "_MOST_TOKENS", 300)  # of 256 positions, so one at a time if it had them all
    reserving(monkeypatch, 16)
    told = []
    for number in range(3):
        question = asked(places["one"], max_tokens=None)
        assert talks.has_room(question)
        told += talks.begin(number, question, StopFlag())
    admits = [talks.has_room(asked(places["one"], max_tokens=None))]
    for step in steps(talks):
        told += step
        admits.append(talks.has_room(asked(places["one"], max_tokens=None)))
    assert admits[0]
    assert not admits[90]  # as they grow, nobody joins them
    assert texts(told) == dict.fromkeys(range(3), alone(places["one"], "the cat", max_tokens=None))
    assert told[-1].payload is None


def test_a_search_that_nobody_limits_has_room_for_all_that_it_may_become(talks: Talks, places, monkeypatch):
    reserving(monkeypatch, 16)
    monkeypatch.setattr(under_test, "_MOST_TOKENS", 300)
    list(talks.begin(1, asked(places["one"]), StopFlag()))
    assert talks.has_room(asked(places["one"], max_tokens=None))
    assert not talks.has_room(asked(places["one"], max_tokens=None, num_beams=2))


def test_where_memory_is_short_what_has_outgrown_its_room_ends_and_the_others_go_on(talks: Talks, places, monkeypatch):
    reserving(monkeypatch, 4)
    told = list(talks.begin(1, asked(places["one"], max_tokens=None), StopFlag()))
    reserving(monkeypatch, 30)
    told += talks.begin(2, asked(places["one"], "what is plus?", max_tokens=30), StopFlag())
    monkeypatch.setattr(under_test, "unused_bytes", lambda _: 0)
    told += [said for step in steps(talks) for said in step]
    parts = [(number, what) for number, what in told if isinstance(what, dict)]
    assert {number: what["finish_reason"] for number, what in parts if "text" in what} == {1: "length", 2: "length"}
    counts = {number: what["completion_tokens"] for number, what in parts if "completion_tokens" in what}
    assert counts == {1: 6, 2: 30}


@pytest.mark.parametrize(("spare", "most"), [(0, 160), (80, 240)])
def test_what_has_outgrown_its_room_goes_on_until_a_step_lacks_memory(talks: Talks, places, monkeypatch, spare, most):
    """Of two layers a step copies as much as is kept of 80 tokens when those and as many more are there, and what is spared."""
    reserving(monkeypatch, 4)
    list(talks.begin(1, asked(places["one"], max_tokens=None), StopFlag()))
    (group,) = talks._groups.values()
    token_bytes = group._token_bytes
    monkeypatch.setattr(room, "_SPARE_BYTES", spare * token_bytes)
    monkeypatch.setattr(under_test, "unused_bytes", lambda _: most * token_bytes - group.kept_bytes)
    prompt = group.talks[0].grown - 1
    told = [said for step in steps(talks) for said in step]
    (count,) = [what["completion_tokens"] for _, what in told if isinstance(what, dict) and "completion_tokens" in what]
    assert prompt + count == 82  # over 80 are noticed before the next step, which writes the last


def test_a_question_that_memory_does_not_reach_for_is_refused_by_its_numbers(talks: Talks, places, monkeypatch):
    free = 2 * 2 * 2 * 8 * 4 * 16 * (8 + 20)  # keys and values, layers, heads, their width, fp32; answers and tokens
    monkeypatch.setattr(under_test, "free_bytes", lambda _: free)
    question = asked(places["one"], [0] * 8, n=16, max_tokens=21)
    assert talks.has_room(question)  # nobody is there to wait for
    with pytest.raises(
        OutOfMemory, match=r"16 answers \(prompts: 1, n: 16, max_tokens 21\) of up to 29 tokens"
    ) as told:
        list(talks.begin(1, question, StopFlag()))
    assert told.value.code == "question_too_large_for_memory"
    assert not talks
    assert texts(list(talks.begin(2, question | {"max_tokens": 20}, StopFlag())))


def test_a_question_waits_for_memory_that_others_take_or_will(talks: Talks, places, monkeypatch):
    list(talks.begin(1, asked(places["one"], max_tokens=100), StopFlag()))
    (group,) = talks._groups.values()
    free = group.lacking_bytes(rows=1)
    monkeypatch.setattr(under_test, "free_bytes", lambda _: free)
    assert talks.has_room(asked(places["one"], max_tokens=1))
    assert not talks.has_room(asked(places["one"], max_tokens=120))
    assert not talks.has_room(asked(places["two"], max_tokens=100))


def test_a_long_question_waits_for_short_ones_that_would_be_padded_to_its_width(talks: Talks, places, monkeypatch):
    list(talks.begin(1, asked(places["one"], n=8), StopFlag()))
    (group,) = talks._groups.values()
    monkeypatch.setattr(under_test, "free_bytes", lambda _: 400 * group._token_bytes)
    long = asked(places["one"], [0] * 100, max_tokens=20)
    assert not talks.has_room(long)
    assert talks.has_room(long | {"num_beams": 2})  # it would be by itself
    for _ in steps(talks):
        pass
    assert texts(list(talks.begin(2, long, StopFlag())))


def test_one_that_takes_more_than_it_seemed_to_is_not_begun_now_and_the_others_go_on(talks: Talks, places, monkeypatch):
    told = list(talks.begin(1, asked(places["one"], max_tokens=12), StopFlag()))
    (group,) = talks._groups.values()
    monkeypatch.setattr(under_test, "free_bytes", lambda _: 100 * group._token_bytes)
    monkeypatch.setattr(under_test, "_about", lambda _: 1)
    long = asked(places["one"], [0] * 60)
    assert talks.has_room(long)
    with pytest.raises(NotNow):
        list(talks.begin(2, long, StopFlag()))
    told += [said for step in steps(talks) for said in step]
    assert texts(told) == {1: alone(places["one"], "the cat", max_tokens=12)}
    assert texts(list(talks.begin(2, long, StopFlag())))


def with_memory_for_one_base(talks: Talks, monkeypatch) -> None:
    bases = talks._weights()._bases
    monkeypatch.setattr(under_test, "free_bytes", lambda _: 0 if len(bases) > 1 else 1 << 30)


def test_a_base_that_is_idle_leaves_memory_before_a_question_is_refused(talks: Talks, places, monkeypatch):
    with_memory_for_one_base(talks, monkeypatch)
    for number, name in enumerate(("one", "two")):
        assert texts(list(talks.begin(number, asked(places[name], max_tokens=1), StopFlag())))
    assert [key.split()[0] for key in talks._weights()._bases] == ["two"]


def test_a_base_that_leaves_no_memory_to_answer_beside_others_leaves_again(talks: Talks, places, monkeypatch):
    with_memory_for_one_base(talks, monkeypatch)
    list(talks.begin(1, asked(places["one"]), StopFlag()))
    with pytest.raises(NotNow):
        list(talks.begin(2, asked(places["two"]), StopFlag()))
    assert [key.split()[0] for key in talks._weights()._bases] == ["one"]


def test_of_a_base_that_leaves_nothing_stays_in_memory(talks: Talks, places):
    list(talks.begin(1, asked(places["one"], max_tokens=1), StopFlag()))
    weights = talks._weights()
    weight = weakref.ref(next(iter(weights._bases.values())).get_input_embeddings().weight)
    weights.keep(())
    assert weight() is None


def test_what_is_kept_of_a_token_is_what_lies_in_the_cache(talks: Talks, places):
    list(talks.begin(1, asked(places["one"], n=3), StopFlag()))
    (group,) = talks._groups.values()
    list(talks.step())
    layers = group.batch._texts._cache.layers
    kept = sum(states.nbytes for layer in layers for states in (layer.keys, layer.values))
    grown = group.talks[0].grown
    assert kept * grown == group.kept_bytes * (grown - 1)  # the newest token is read with the next step


def test_a_base_that_answers_makes_no_room_for_another(places):
    weights = Weights(Machine.choose("cpu", "fp32"))
    talks = Talks(lambda: weights)
    list(talks.begin(1, asked(places["one"], max_tokens=100), StopFlag()))
    for name in ("two", "three"):
        list(talks.begin(2, asked(places[name], max_tokens=1), StopFlag()))
    assert {key.split()[0] for key in weights._bases} == {"one", "three"}
