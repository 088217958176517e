"""Pairs: accumulated, packed, and against a reference that was kept or is computed anew, the numbers are the same."""

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import reference
from engine.data.corpus import Corpus, batch_of
from engine.errors import EXIT_DATA
from engine.loop import Training
from engine.model.logprobs import document_logprobs
from tests import runs
from workers.stage import share_cache


def pair_run(root: Path, batch: int = 2, accumulation: int = 1, **fields: Any) -> Path:
    spec = runs.dpo_spec(
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        packing=fields.pop("packing", False),
        max_steps=3,
        precision="fp32",
        learning_rate=0.001,
    )
    tuning = fields.pop("tuning", {"method": "full"})
    runs.dpo_run(root, spec=spec | {"tuning": tuning} | fields)
    if tuning["method"] == "qlora":
        runs.save_base(root / "model", width=64)
    return root


def references(root: Path) -> dict[str, bytes]:
    """What the run knows of its starting weights."""
    return {path.name: path.read_bytes() for path in (root / "cache").glob("*/*.npy")}


def losses(root: Path) -> dict[int, float]:
    with runs.opened(root) as session:
        Training(session, session.spec).carry_out()
    return runs.losses(root)


def train_corpus(session: Any) -> Corpus:
    assert session.rows.train is not None
    return session.rows.train


TUNINGS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora": {"method": "lora", "r": 4},
    "qlora": {"method": "qlora", "r": 4},
}


@pytest.mark.parametrize(
    ("tuning", "batch", "accumulation"), [("full", 4, 2), ("full", 1, 8), ("lora", 2, 4), ("qlora", 4, 2)]
)
def test_accumulated_pairs_follow_the_trajectory_of_one_large_batch(tmp_path, tuning, batch, accumulation):
    one = losses(pair_run(tmp_path / "one", 8, tuning=TUNINGS[tuning]))
    many = pair_run(tmp_path / "many", batch, accumulation, tuning=TUNINGS[tuning])
    assert losses(many) == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    ("tuning", "loss_type"),
    [("full", "sigmoid"), ("full", "ipo"), ("full", "sigmoid_norm"), ("lora", "sigmoid"), ("qlora", "sigmoid")],
)
def test_packed_pairs_score_as_each_pair_alone(tmp_path, tuning, loss_type):
    root = pair_run(tmp_path / "run", tuning=TUNINGS[tuning], dpo={"loss_type": loss_type})
    with runs.opened(root) as session:
        corpus = train_corpus(session)
        with torch.no_grad():
            for _, parameter in session.subject.trainable():
                parameter.mul_(1.05).add_(0.01)
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
    kept = references(root)
    shutil.rmtree(root / "cache")
    with runs.opened(root) as again:
        assert again.start is not None
    assert references(root) == kept


@pytest.mark.parametrize("left", [lambda whole: whole[:-40], lambda whole: bytes(len(whole)), lambda _: b""])
def test_a_reference_that_a_power_cut_has_left_in_part_is_computed_again(tmp_path, left):
    root = pair_run(tmp_path / "run")
    with runs.opened(root):
        kept = references(root)
    for path in (root / "cache").glob("*/*.npy"):
        path.write_bytes(left(path.read_bytes()))
    with runs.opened(root):
        assert references(root) == kept


@pytest.mark.parametrize(("fails_at", "whole"), [(2, 0), (-1, 1)], ids=["training", "validation"])
def test_a_reference_that_was_begun_is_gone_on_with_bit_for_bit(tmp_path, monkeypatch, fails_at, whole):
    root = pair_run(tmp_path / "run")
    scored: list[int] = []
    fails: set[int] = set()

    def fails_in_the_midst(model, batch):
        scored.append(len(batch.segments))
        if len(scored) - 1 in fails:
            raise KeyboardInterrupt
        return document_logprobs(model, batch)

    monkeypatch.setattr(reference, "document_logprobs", fails_in_the_midst)
    monkeypatch.setattr(reference, "_KEEP_EVERY_S", 0.0)
    with runs.opened(root):
        kept, batches = references(root), tuple(scored)
    shutil.rmtree(root / "cache")
    scored.clear()
    fails.add(range(len(batches))[fails_at])
    with pytest.raises(KeyboardInterrupt), runs.opened(root):
        pass
    assert len(references(root)) == whole
    with runs.opened(root):
        assert references(root) == kept
    assert sum(scored) == sum(batches) + batches[fails_at], "what was scored before is not scored again"
    assert not list((root / "cache").glob("*/*.part"))


def test_what_a_job_that_never_came_back_has_left_of_a_reference_is_removed_after_a_day(tmp_path):
    left = tmp_path / "run" / "cache" / "ab"
    left.mkdir(parents=True)
    ages_s = {"old.part": 90_000, "old.writing": 4_000, "new.part": 80_000, "new.writing": 3_000}
    for name, age_s in ages_s.items():
        (left / name).write_bytes(b"half of it")
        os.utime(left / name, (time.time() - age_s,) * 2)
    with runs.opened(pair_run(tmp_path / "run")):
        assert {path.name for path in left.iterdir()} & set(ages_s) == {"new.part", "new.writing"}


def test_other_rows_have_another_reference(tmp_path):
    root = pair_run(tmp_path / "run")
    with runs.opened(root):
        pass
    runs.write_rows(root / "data" / "train.jsonl", runs.pairs(60, seed=1))
    with runs.opened(root):
        pass
    assert len(references(root)) == 4


def test_an_adapter_to_go_on_from_is_part_of_the_reference(tmp_path):
    tuned = runs.sft_run(tmp_path / "sft", spec=runs.sft_spec(precision="fp32", max_steps=4))
    assert runs.carry_out(tuned) == 0
    root = pair_run(tmp_path / "run", tuning={"method": "lora", "r": 4})
    shutil.copytree(tuned / "output", root / "adapter")
    assert losses(root)[1] == pytest.approx(math.log(2), abs=1e-6)
    kept = references(root)
    shutil.rmtree(root / "cache")
    with runs.opened(root) as again:
        assert again.start is not None
    assert references(root) == kept


def test_under_bf16_the_loss_starts_within_its_rounding_of_ln_2(tmp_path):
    root = pair_run(tmp_path / "run", packing=True)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["hyperparameters"]["precision"] = "bf16"
    (root / "job.json").write_text(json.dumps(job))
    assert losses(root)[1] == pytest.approx(math.log(2), abs=0.01)


def figures(root: Path) -> list[float]:
    """Every figure of every step and evaluation that speaks of rewards or losses."""
    told = [event["values"] for event in runs.events(root, "metrics")]
    return [value for values in told for name, value in values.items() if "rewards/" in name or "loss" in name]


@pytest.mark.parametrize(
    ("tuning", "reference"),
    [
        (tuning, way)
        for tuning in TUNINGS
        for way in ("disabled_adapter", "frozen_copy")
        if (tuning, way[0]) != ("full", "d")
    ],
)
def test_a_cached_reference_a_frozen_copy_and_a_disabled_adapter_make_the_same_run(tmp_path, tuning, reference):
    cached = pair_run(tmp_path / "cached", tuning=TUNINGS[tuning])
    live = pair_run(tmp_path / "live", tuning=TUNINGS[tuning], dpo={"reference": reference})
    assert losses(live) == pytest.approx(losses(cached), rel=1e-5)
    assert figures(live) == pytest.approx(figures(cached), rel=1e-4, abs=1e-5)
    assert references(cached)
    assert not references(live)


def test_what_is_merged_is_scored_against_the_start_though_it_has_no_adapter_to_leave_out(tmp_path):
    tuning = TUNINGS["lora"] | {"merge": "auto"}
    root = pair_run(tmp_path / "run", tuning=tuning, dpo={"reference": "disabled_adapter"})
    assert runs.carry_out(root) == 0
    told = runs.events(root, "finished")[0]["metrics"]
    assert told["merged_original_loss"] == pytest.approx(told["eval_loss"], rel=1e-5)
    assert [event["path"] for event in runs.events(root, "exported")] == ["output", "output-merged"]


def test_a_reference_that_learns_along_would_show(tmp_path):
    root = pair_run(tmp_path / "run", dpo={"reference": "frozen_copy"})
    with runs.opened(root) as session:
        session.objective.frozen = session.subject.model  # type: ignore[attr-defined]
        Training(session, session.spec).carry_out()
    assert list(runs.losses(root).values()) == pytest.approx([math.log(2)] * 3, abs=1e-5)
    assert losses(pair_run(tmp_path / "right", dpo={"reference": "frozen_copy"}))[3] < 0.69


@pytest.mark.parametrize(("tuning", "reference"), [("full", "frozen_copy"), ("lora", "disabled_adapter")])
def test_with_a_live_reference_a_run_goes_on_bit_for_bit_and_is_exported(tmp_path, tuning, reference):
    root = pair_run(tmp_path / "run", tuning=TUNINGS[tuning], dpo={"reference": reference})
    whole = losses(root)
    shutil.rmtree(max((root / "checkpoints").glob("step-*")))
    assert runs.carry_out(root) == 0
    assert runs.events(root, "started")[-1]["start_step"] == 2
    assert runs.losses(root) == whole


def test_another_job_over_the_same_weights_and_rows_finds_the_reference(tmp_path):
    first, again, other = (
        pair_run(tmp_path / "first"),
        pair_run(tmp_path / "again", dpo={"beta": 0.5}),
        pair_run(tmp_path / "other"),
    )
    for root in (first, again, other):
        share_cache(root, tmp_path / "cache")
    assert losses(first)[1] == losses(again)[1]
    config = json.loads((other / "model" / "config.json").read_text())
    (other / "model" / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    losses(other)
    scored = [[e["code"] for e in runs.events(root, "log")].count("reference_scored") for root in (again, other)]
    assert scored == [0, 1]


def test_without_its_adapter_a_job_that_goes_on_from_one_has_another_start(tmp_path):
    root = pair_run(tmp_path / "run", tuning=TUNINGS["lora"], dpo={"reference": "disabled_adapter"})
    tuned = pair_run(tmp_path / "tuned", tuning=TUNINGS["lora"])
    assert runs.carry_out(tuned) == 0
    shutil.copytree(tuned / "output", root / "adapter")
    assert runs.carry_out(root) == EXIT_DATA
    assert runs.events(root, "failed")[0]["code"] == "reference_is_not_the_start"
