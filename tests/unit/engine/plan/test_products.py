"""The lengths that a plan counts are those that attention and batches come to."""

import numpy as np
import pytest

from engine.data.corpus import Corpus, Document, batch_of
from engine.data.lengths import Lengths
from engine.model.documents import documents_of
from engine.parts import Hyperparameters, LoraTuning
from engine.plan import Counts, Setting, Shape, Variety, kept_shapes, new_shapes
from engine.tally import Tally
from tests.invariants.test_memory_plan import CONFIG

STEP = 64


def document(line: int, prompt: int, answer: int, *, labels: bool = True) -> Document:
    """Tokens that a prompt of that length and an answer make; the first of the answer is its line."""
    ids = np.concatenate([np.zeros(prompt, np.int32), np.full(answer, line, np.int32)])
    return Document(line, ids, np.arange(prompt + answer) >= (prompt if labels else prompt + answer), 1)


def corpora() -> list[Corpus]:
    rng = np.random.default_rng(0)
    rows = [document(number, *rng.integers(1, 500, 2)) for number in range(24)]
    silent = [document(number, int(rng.integers(60, 700)), 9, labels=number % 3 > 0) for number in range(24)]
    pairs = [
        document(number, prompt, answer)
        for prompt in (100, 129, 200, 300, 500)
        for number, answer in ((1, 40), (2, 90))
    ]
    return [Corpus.of(rows), Corpus.of(silent), Corpus.of(pairs, together=2).with_shared_prefixes()]


@pytest.mark.parametrize("corpus", corpora())
def test_blocks_are_those_that_attention_works_on(corpus):
    lengths, variety = Lengths(corpus), Variety(STEP)
    whole, asked = set(), set()
    for example in range(len(corpus) // corpus.together):
        chosen = corpus.documents_of([example])
        variety.documents(*(of[chosen].tolist() for of in (lengths.whole, lengths.shared, lengths.asked)))
        batch = batch_of(corpus, chosen)
        for found, firsts in ((whole, ()), (asked, batch.first_labelled)):
            for one in documents_of(batch.segments, batch.prefixes, firsts):
                found |= {(b.queries[1] - b.queries[0], b.keys[1]) for b in one.blocks(None, STEP)}
    assert variety.blocks() == whole
    assert variety.last_blocks() == asked


@pytest.mark.parametrize("corpus", corpora())
def test_a_run_counts_what_was_walked(corpus):
    lengths, walked, tally = Lengths(corpus), Variety(STEP), Tally(STEP)
    for start in range(0, len(corpus) // corpus.together, 4):
        chosen = corpus.documents_of(list(range(start, min(start + 4, len(corpus) // corpus.together))))
        walked.documents(*(of[chosen].tolist() for of in (lengths.whole, lengths.shared, lengths.asked)))
        walked.batch(lengths.counts(chosen))
        tally.see(batch_of(corpus, chosen))
    assert tally.variety.blocks() == walked.blocks()
    assert tally.variety.last_blocks() == walked.last_blocks()
    assert (tally.variety.rows, tally.variety.labels) == (walked.rows, walked.labels)


def test_shapes_are_counted_where_they_cost_something():
    shape, counts = Shape.of(CONFIG), Counts(1, 1000, 300)
    for precision, some in (("fp32", False), ("bf16", True)):
        setting = Setting("cpu", precision, LoraTuning(), Hyperparameters(activation_checkpointing="none"))
        variety = Variety(setting.step)
        variety.batch(counts)
        variety.documents([500, 500], [0, 0], [350, 350])
        assert (new_shapes(shape, setting, variety) > 0) == some


def test_code_of_so_many_shapes_is_kept_and_of_no_more():
    assert [kept_shapes(count) for count in (0, 1000, 1024, 5000)] == [0, 1000, 1024, 1024]


def test_a_batch_without_labels_has_no_products_of_them():
    variety = Variety(STEP)
    variety.batch(Counts(1, 100, 0))
    assert variety.labels == set()
