"""Pairs: accumulated, packed, and against a reference that was kept or is computed anew, the numbers are the same."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.corpus import Corpus, batch_of
from engine.loop import Training
from engine.model.logprobs import document_logprobs
from tests import runs


def pair_run(root: Path, batch: int = 2, accumulation: int = 1, **fields: Any) -> Path:
    spec = runs.dpo_spec(
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        packing=fields.pop("packing", False),
        max_steps=3,
        precision="fp32",
        learning_rate=0.001,
    )
    return runs.dpo_run(root, spec=spec | {"tuning": {"method": "full"}} | fields)


def losses(root: Path) -> dict[int, float]:
    with runs.opened(root) as session:
        Training(session, session.spec).carry_out()
    return runs.losses(root)


def train_corpus(session: Any) -> Corpus:
    assert session.rows.train is not None
    return session.rows.train


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 2), (1, 8)])
def test_accumulated_pairs_follow_the_trajectory_of_one_large_batch(tmp_path, batch, accumulation):
    one = losses(pair_run(tmp_path / "one", 8))
    assert losses(pair_run(tmp_path / "many", batch, accumulation)) == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "sigmoid_norm"])
def test_packed_pairs_score_as_each_pair_alone(tmp_path, loss_type):
    with runs.opened(pair_run(tmp_path / "run", dpo={"loss_type": loss_type})) as session:
        corpus = train_corpus(session)
        with torch.no_grad():
            for parameter in session.subject.model.parameters():
                parameter.mul_(1.05)
            together = session.loss(batch_of(corpus, list(range(20))))
            alone = [session.loss(batch_of(corpus, [2 * i, 2 * i + 1])) for i in range(10)]
    assert float(together.total) == pytest.approx(sum(float(scored.total) for scored in alone), rel=1e-5)
    margins = [float(scored.figures["rewards/margins"]) for scored in alone]
    assert float(together.figures["rewards/margins"]) == pytest.approx(sum(margins), rel=1e-4)


def test_no_batch_parts_a_pair(tmp_path):
    with runs.opened(pair_run(tmp_path / "run", packing=True)) as session:
        made = Training(session, session.spec)
        for _ in range(2 * made.stream.steps_in(1)):
            for batch in made.stream.next_step():
                assert batch.lines[::2] == batch.lines[1::2]


def test_the_kept_reference_equals_one_computed_from_the_starting_weights(tmp_path):
    root = pair_run(tmp_path / "run")
    losses(root)
    with runs.opened(root) as again, torch.no_grad():  # goes on from the last checkpoint: other weights by now
        corpus = train_corpus(again)
        start = again.objective.start.load(None, again.machine).model.eval()  # type: ignore[attr-defined]
        live, _ = document_logprobs(start, batch_of(corpus, list(range(len(corpus)))))
        now, _ = document_logprobs(again.subject.model.eval(), batch_of(corpus, list(range(len(corpus)))))
    assert corpus.reference is not None
    np.testing.assert_allclose(corpus.reference, live.numpy(), rtol=1e-5)
    assert float(np.abs(corpus.reference - now.numpy()).max()) > 0.01


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_reference_that_was_lost_is_computed_again_bit_for_bit(tmp_path, method):
    root = pair_run(tmp_path / "run", tuning={"method": method})
    losses(root)
    kept = {path.name: path.read_bytes() for path in (root / "reference").iterdir()}
    for path in (root / "reference").iterdir():
        path.unlink()
    with runs.opened(root) as again:
        assert again.start is not None
    assert {path.name: path.read_bytes() for path in (root / "reference").iterdir()} == kept


def test_other_rows_have_another_reference(tmp_path):
    root = pair_run(tmp_path / "run")
    with runs.opened(root):
        pass
    runs.write_rows(root / "data" / "train.jsonl", runs.pairs(60, seed=1))
    with runs.opened(root):
        pass
    assert len(list((root / "reference").iterdir())) == 4


def test_an_adapter_to_go_on_from_is_part_of_the_reference(tmp_path):
    tuned = runs.sft_run(tmp_path / "sft", spec=runs.sft_spec(precision="fp32", max_steps=4))
    assert runs.carry_out(tuned) == 0
    root = pair_run(tmp_path / "run", tuning={"method": "lora", "r": 4})
    shutil.copytree(tuned / "output", root / "adapter")
    assert losses(root)[1] == pytest.approx(math.log(2), abs=1e-6)
    kept = {path.name: path.read_bytes() for path in (root / "reference").iterdir()}
    shutil.rmtree(root / "reference")
    with runs.opened(root) as again:
        assert again.start is not None
    assert {path.name: path.read_bytes() for path in (root / "reference").iterdir()} == kept


def test_under_bf16_the_loss_starts_within_its_rounding_of_ln_2(tmp_path):
    root = pair_run(tmp_path / "run", packing=True)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["hyperparameters"]["precision"] = "bf16"
    (root / "job.json").write_text(json.dumps(job))
    assert losses(root)[1] == pytest.approx(math.log(2), abs=0.01)
