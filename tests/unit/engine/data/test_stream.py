"""Packing and the order of rows."""

import numpy as np
import pytest

from engine.data.corpus import Corpus, Document, batch_of
from engine.data.packing import pack
from engine.data.stream import RowStream, documents_in_order

LENGTHS = np.random.default_rng(0).integers(2, 40, 120)


def corpus() -> Corpus:
    return Corpus.of(
        [
            Document(line, np.full(length + 1, line, np.int32), np.ones(length + 1, np.bool_), 1)
            for line, length in enumerate(LENGTHS, start=1)
        ]
    )


def stream(seed: int = 1, *, packing: bool = True) -> RowStream:
    return RowStream(corpus(), seed=seed, row_tokens=40, step_rows=(4, 2), packing=packing)


def epoch_lines(of: RowStream) -> list[int]:
    lines, epoch = [], int(of.epoch())
    while int(of.epoch()) == epoch:
        lines += [line for batch in of.next_step() for line in batch.lines]
    return lines


@pytest.mark.parametrize("packing", [True, False])
def test_an_epoch_holds_every_document_once(packing):
    made = stream(packing=packing)
    assert sorted(epoch_lines(made)) == list(range(1, 121))
    assert sorted(epoch_lines(made)) == list(range(1, 121))


def test_epochs_have_orders_of_their_own():
    made = stream()
    assert epoch_lines(made) != epoch_lines(made)


def test_the_order_is_a_function_of_the_seed():
    assert epoch_lines(stream(1)) == epoch_lines(stream(1))
    assert epoch_lines(stream(1)) != epoch_lines(stream(2))


def test_a_stream_set_to_a_cursor_goes_on_from_there():
    whole, later = stream(), stream()
    steps = [[batch.lines for batch in whole.next_step()] for _ in range(12)]
    for _ in range(5):
        later.next_step()
    fresh = stream()
    fresh.cursor = later.cursor
    assert [[batch.lines for batch in fresh.next_step()] for _ in range(7)] == steps[5:]


def test_steps_of_an_epoch_are_of_like_size():
    made = stream(packing=False)
    sizes = [sum(len(batch.segments) for batch in made.next_step()) for _ in range(made.steps_in(1.0))]
    assert max(sizes) - min(sizes) <= 1


def test_fractions_of_an_epoch_take_a_share_of_its_steps():
    made = stream(packing=False)
    assert [made.steps_in(epochs) for epochs in (0.001, 1.0, 1.4, 2.0)] == [1, 15, 21, 30]


def test_no_row_is_longer_than_asked_and_rows_are_well_filled():
    lengths = LENGTHS // 2 + 1
    rows = pack(lengths, np.arange(120), 40)
    held = [int(lengths[row].sum()) for row in rows]
    assert max(held) <= 40
    assert sum(held) / (40 * len(rows)) > 0.95


def test_positions_start_anew_in_each_document():
    batch = stream().next_step()[0]
    starts = np.cumsum([0, *batch.segments[:-1]])
    assert [int(batch.positions_T[start]) for start in starts] == [0] * len(starts)
    assert int(batch.positions_T.sum()) == sum(length * (length - 1) // 2 for length in batch.segments)


def test_evaluation_scores_every_document_once_within_the_budget():
    batches = [batch_of(corpus(), documents) for documents in documents_in_order(corpus(), 100)]
    assert sorted(line for batch in batches for line in batch.lines) == list(range(1, 121))
    assert max(batch.tokens for batch in batches) <= 100
