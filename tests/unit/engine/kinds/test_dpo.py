"""DPO: each loss against its formula written out with plain transformers, and the metrics of a run."""

import json
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from engine.data.chat import ensure_chat_template
from engine.data.corpus import batch_of
from engine.data.pairs import pair_corpus
from engine.data.source import SourceRow
from engine.errors import EXIT_DATA
from engine.jobs import JOB_SPEC, resolve
from engine.rows import parse_row
from tests import runs

BETA = 0.3
DPO = {"kind": "dpo", "model": "tiny", "training_file": "file-1"}


def dpo_run(root: Path, *, rows: int = 24, tuning: str = "full", dpo: dict | None = None, **hyperparameters) -> Path:
    spec = runs.dpo_spec(precision="fp32", **hyperparameters)
    spec |= {"tuning": {"method": tuning}, "validation_file": None, "dpo": dpo or {}}
    return runs.dpo_run(root, rows, spec)


def answer_logprobs(model, tokenizer, prompt: str, answer: str) -> torch.Tensor:
    """Return the log-probabilities of the answer's tokens and its end, by transformers' own attention and head."""
    turns = [{"role": "user", "content": prompt}]
    before = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    asked = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    ids = tokenizer(before + answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    logits = model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0]
    picked = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return picked[asked - 1 :]


def expected_loss(loss_type: str, policy, reference, smoothing: float) -> torch.Tensor:
    """One pair's loss from the log-probabilities of (chosen, rejected) tokens."""
    (pc, pr), (rc, rr) = policy, reference
    ratio = BETA * ((pc.sum() - rc.sum()) - (pr.sum() - rr.sum()))
    mean = (pc - rc).mean() - (pr - rr).mean()
    return {
        "sigmoid": -logsigmoid(ratio),
        "hinge": torch.clamp(1 - ratio, min=0),
        "ipo": (mean - 1 / (2 * BETA)) ** 2,
        "robust": (-(1 - smoothing) * logsigmoid(ratio) + smoothing * logsigmoid(-ratio)) / (1 - 2 * smoothing),
        "sigmoid_norm": -logsigmoid(BETA * mean),
    }[loss_type]


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "hinge", "robust", "sigmoid_norm"])
def test_loss_and_gradients_are_those_of_the_formula(tmp_path, loss_type):
    smoothing = 0.1 if loss_type == "robust" else 0.0
    dpo = {"beta": BETA, "loss_type": loss_type, "label_smoothing": smoothing}
    root = dpo_run(tmp_path / "run", rows=6, dpo=dpo)
    stock = AutoModelForCausalLM.from_pretrained(root / "model", attn_implementation="eager")
    start = AutoModelForCausalLM.from_pretrained(root / "model", attn_implementation="eager")
    with runs.opened(root) as session:
        model, tokenizer = session.subject.model, session.subject.tokenizer
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():  # away from the starting weights, where all of the terms differ
            for ours, theirs in zip(model.parameters(), stock.parameters(), strict=True):
                theirs.add_(torch.randn(theirs.shape, generator=generator), alpha=0.02)
                ours.copy_(theirs)
        batch = batch_of(session.rows.train, list(range(12)))
        scored = session.loss(batch)
        scored.total.backward()
        rows = [json.loads(line) for line in (root / "data" / "train.jsonl").read_text().splitlines()]
        expected = torch.zeros(())
        for row in rows:
            sides = [(row["prompt"], row[side]) for side in ("chosen", "rejected")]
            policy = [answer_logprobs(stock, tokenizer, *side) for side in sides]
            with torch.no_grad():
                reference = [answer_logprobs(start, tokenizer, *side) for side in sides]
            expected = expected + expected_loss(loss_type, policy, reference, smoothing)
        expected.backward()
    assert scored.counted == len(rows)
    torch.testing.assert_close(scored.total, expected, rtol=2e-5, atol=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), stock.parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        assert float((ours.grad - theirs.grad).abs().max()) < 1e-4 * max(scale, 1e-3), name


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_loss_starts_at_ln_2_and_the_rewards_at_nothing(tmp_path, tuning):
    root = dpo_run(tmp_path / "run", tuning=tuning, max_steps=1)
    assert runs.carry_out(root) == 0
    first = runs.events(root, "metrics")[0]["values"]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-5)


def test_over_a_base_in_4_bits_it_starts_there_too_and_falls(tmp_path):
    spec = runs.dpo_spec(precision="fp32", max_steps=12)
    root = runs.dpo_run(tmp_path / "run", spec=spec | {"tuning": {"method": "qlora", "r": 4}})
    runs.save_base(root / "model", width=64)
    assert runs.carry_out(root) == 0
    losses = runs.losses(root)
    assert losses[1] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[12] < 0.5


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("dpo") / "run"
    spec = runs.dpo_spec(precision="fp32", max_steps=30, learning_rate=0.003)
    assert runs.carry_out(runs.dpo_run(root, spec=spec)) == 0
    return root


def test_the_preference_of_held_out_pairs_is_learned(trained):
    metrics = runs.events(trained, "finished")[0]["metrics"]
    assert metrics["eval_loss"] < 0.5
    assert metrics["eval_accuracy"] == 1.0
    assert 0.5 <= metrics["eval_length_baseline"] <= 1.0


def test_a_step_tells_the_figures_of_trl(trained):
    values = runs.events(trained, "metrics")[0]["values"]
    figures = {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"}
    assert figures | {"logps/rejected", "trained_tokens_per_s", "mfu"} <= values.keys()
    last = [e["values"] for e in runs.events(trained, "metrics") if e["split"] == "train"][-1]
    assert last["rewards/margins"] == pytest.approx(last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5)
    assert last["rewards/accuracies"] > 0.9


def test_trained_tokens_count_labels_and_not_pairs(trained):
    metrics = runs.events(trained, "finished")[0]["metrics"]
    steps = [e["values"] for e in runs.events(trained, "metrics") if e["split"] == "train"]
    assert metrics["trained_tokens"] > 10 * len(steps)


def labels_of(row: dict) -> list[str]:
    tokenizer = runs.tokenizer()
    ensure_chat_template(tokenizer)
    source = [SourceRow(1, parse_row(row, "preference"))]
    corpus = pair_corpus(source, tokenizer, max_length=256, long_rows="truncate").corpus
    sides = [batch_of(corpus, [document]).labels_N.tolist() for document in (0, 1)]
    return [str(tokenizer.decode(side)) for side in sides]


def test_only_the_answers_are_trained_and_their_ends():
    turns = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "the red house"},
        {"role": "user", "content": "and now"},
    ]
    row = {"prompt": turns, "chosen": "a dog here", "rejected": "a tree"}
    assert labels_of(row) == ["a dog here<|endoftext|>", "a tree<|endoftext|>"]


def test_a_pair_of_which_one_answer_is_cut_off_is_left_out(tmp_path):
    root = dpo_run(tmp_path / "run", max_steps=1)
    rows = runs.pairs(10)
    rows[3]["prompt"] = runs.text(20)
    runs.write_rows(root / "data" / "train.jsonl", rows)
    assert runs.carry_out(root) == 0
    left_out = next(e for e in runs.events(root, "log") if e["code"] == "rows_without_labels")
    assert left_out["data"]["lines"] == [4]
    assert runs.events(root, "started")[0]["train_rows"] == 9


@pytest.mark.parametrize(("kind", "rows"), [("dpo", runs.answers(5)), ("sft", runs.pairs(5))])
def test_rows_of_another_kind_of_job_are_a_data_error(tmp_path, kind, rows):
    root = dpo_run(tmp_path / "run") if kind == "dpo" else runs.sft_run(tmp_path / "run")
    runs.write_rows(root / "data" / "train.jsonl", rows)
    assert runs.carry_out(root) == EXIT_DATA
    failure = runs.events(root, "failed")[0]
    assert (failure["failure"], failure["code"]) == ("data_error", "wrong_file_format")
    assert "line 1" in failure["message"]


@pytest.mark.parametrize(("tuning", "rate"), [("full", 1e-6), ("lora", 1e-5), ("qlora", 1e-5)])
def test_auto_learning_rates_are_those_of_trl(tuning, rate):
    spec = resolve(JOB_SPEC.validate_python(DPO | {"tuning": {"method": tuning}}))
    assert spec.hyperparameters.learning_rate == pytest.approx(rate)
    assert spec.hyperparameters.num_train_epochs == 1.0


def test_a_model_without_an_adapter_has_none_to_disable():
    given = DPO | {"tuning": {"method": "full"}, "dpo": {"reference": "disabled_adapter"}}
    with pytest.raises(ValidationError, match="needs an adapter"):
        JOB_SPEC.validate_python(given)


@pytest.mark.parametrize(
    "dpo",
    [
        {"reference": "live"},
        {"label_smoothing": 0.1},
        {"loss_type": "robust", "label_smoothing": 0.5},
        {"beta": 0},
        {"loss_type": "kto"},
    ],
)
def test_settings_that_mean_nothing_are_refused(dpo):
    with pytest.raises(ValidationError):
        JOB_SPEC.validate_python(DPO | {"dpo": dpo})
