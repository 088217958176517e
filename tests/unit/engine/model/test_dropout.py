"""Dropout by document: what is left out depends on seed, step, document and layer, and on nothing else."""

import torch

from engine.data.corpus import Batch
from engine.model.dropout import DocumentDropout, Place

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


def test_an_evaluation_leaves_nothing_out():
    x = torch.rand(1, 3, WIDTH)
    assert torch.equal(DocumentDropout(0.5, 0, Place()).eval()(x), x)
