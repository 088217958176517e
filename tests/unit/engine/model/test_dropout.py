"""Dropout by document: what is left out depends on seed, step, document and layer, and on nothing else."""

from dataclasses import replace

import torch

from engine.data.corpus import Batch
from engine.model.dropout import DocumentDropout, LabelDropout, Place

WIDTH = 64


def batch(segments: tuple[int, ...], drawn: tuple[int, int] = (0, 0)) -> Batch:
    nothing = torch.zeros(sum(segments), dtype=torch.long)
    return Batch(nothing, nothing, nothing, nothing, segments, (1,) * len(segments), drawn=drawn)


def dropped(given: Batch, *, seed: int = 1, layer: int = 0, share: float = 0.25) -> torch.Tensor:
    place = Place()
    place.seed, place.batch = seed, given
    return DocumentDropout(share, layer, place)(torch.ones(1, given.tokens, WIDTH))[0]


def test_a_document_loses_the_same_numbers_alone_and_beside_others():
    together = dropped(batch((5, 7, 3), drawn=(4, 10)))
    assert torch.equal(together[5:12], dropped(batch((7,), drawn=(4, 11))))


def test_about_the_share_is_left_out_and_the_others_scaled_up():
    made = dropped(batch((400,)))
    assert abs(float((made == 0).float().mean()) - 0.25) < 0.02
    assert set(made.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}


def test_another_seed_step_document_or_layer_draws_anew():
    first = dropped(batch((50,), drawn=(2, 3)))
    others = [
        dropped(batch((50,), drawn=(2, 3)), seed=2),
        dropped(batch((50,), drawn=(3, 3))),
        dropped(batch((50,), drawn=(2, 4))),
        dropped(batch((50,), drawn=(2, 3)), layer=1),
    ]
    assert not any(torch.equal(first, other) for other in others)


def dropped_at_head(given: Batch, rows: slice = slice(None), own: slice | torch.Tensor = slice(None)) -> torch.Tensor:
    """What a head's dropout leaves of some rows of the states of the labels that are a rank's own."""
    place = Place()
    place.seed, place.batch = 1, given
    dropout = LabelDropout(0.25, place)
    dropout.own, dropout.first = lambda _: own, rows.start or 0
    return dropout(torch.ones(given.count, WIDTH)[own][rows])


def labelled(counts: tuple[int, ...], drawn: tuple[int, int] = (0, 0)) -> Batch:
    return replace(batch(counts, drawn), label_counts=counts)


def test_a_head_drops_the_same_numbers_of_a_label_in_any_chunk_on_any_rank_and_beside_any_document():
    given = labelled((5, 7, 3), drawn=(4, 10))
    whole = dropped_at_head(given)
    assert (whole == 0).any()
    chunks = [dropped_at_head(given, slice(start, start + 4)) for start in range(0, 15, 4)]
    assert torch.equal(torch.cat(chunks), whole)
    own = torch.tensor([0, 1, 6, 7, 13])
    assert torch.equal(dropped_at_head(given, slice(1, 4), own), whole[own][1:4])
    assert torch.equal(dropped_at_head(labelled((7,), drawn=(4, 11))), whole[5:12])
    assert not torch.equal(dropped_at_head(labelled((7,), drawn=(5, 11))), whole[5:12])


def test_an_evaluation_leaves_nothing_out():
    x = torch.rand(1, 3, WIDTH)
    assert torch.equal(DocumentDropout(0.5, 0, Place()).eval()(x), x)
