"""Accumulating micro-batches is one large batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from engine.loop import Training
from tests import runs


@contextmanager
def training(root: Path, batch: int, accumulation: int) -> Iterator[Training]:
    spec = runs.sft_spec(
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        packing=False,
        max_steps=3,
        precision="fp32",
    )
    spec["tuning"] = {"method": "full"}
    spec["hyperparameters"]["learning_rate"] = 0.001
    runs.sft_run(root, spec=spec)
    with runs.opened(root) as session:
        yield Training(session, session.spec)


def gradients_of_first_step(made: Training, *, per_micro_batch: bool = False) -> torch.Tensor:
    batches = made.stream.next_step()
    labels = sum(batch.count for batch in batches)
    for batch in batches:
        summed, count = made.session.loss(batch)[:2]
        (summed / (count * len(batches) if per_micro_batch else labels)).backward()
    return torch.cat([p.grad.flatten() for _, p in made.trainable])


@pytest.fixture(scope="module")
def one_batch(tmp_path_factory) -> dict[int, float]:
    root = tmp_path_factory.mktemp("one") / "run"
    with training(root, 8, 1) as made:
        made.carry_out()
    return runs.losses(root)


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 2), (1, 8)])
def test_accumulated_steps_follow_the_trajectory_of_one_large_batch(tmp_path, one_batch, batch, accumulation):
    with training(tmp_path / "run", batch, accumulation) as made:
        made.carry_out()
    assert runs.losses(tmp_path / "run") == pytest.approx(one_batch, rel=1e-5)


def test_normalising_each_micro_batch_by_itself_gives_other_gradients(tmp_path):
    with training(tmp_path / "a", 8, 1) as one, training(tmp_path / "b", 1, 8) as many:
        large, small = gradients_of_first_step(one), gradients_of_first_step(many)
    with training(tmp_path / "c", 1, 8) as many:
        wrong = gradients_of_first_step(many, per_micro_batch=True)
    scale = float(large.abs().max())
    assert float((large - small).abs().max()) < 1e-4 * scale
    assert float((large - wrong).abs().max()) > 1e-2 * scale
