"""A mixture of experts is trained as any model is: packing, accumulation, ranks and a restart change nothing of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MixtralForCausalLM

from engine.data.corpus import Batch
from engine.loop import Training
from engine.model.attention import PACKED
from engine.model.experts import balance_of
from engine.model.forward import backbone_of, head_of, token_score
from engine.model.load import load_model
from tests import runs
from tests.invariants.test_packed_equals_unpacked import LENGTHS, documents
from tests.ranks import SAVE_STEPS, STEPS, check_same, finished, from_checkpoint

EXPERTS = 4
FIGURES = ("balance_loss", *(f"expert_load/{expert}" for expert in range(EXPERTS)))


def run_of(root: Path, *, model: dict[str, Any] | None = None, **given: Any) -> Path:
    """A small mixture from scratch, `given` beside its hyperparameters in the spec."""
    runs.pretrain_run(root, precision="fp32", max_steps=STEPS, learning_rate=0.002)
    spec = json.loads((root / "job.json").read_text())["spec"]
    spec["model"] |= {"num_local_experts": EXPERTS, **(model or {})}
    spec["hyperparameters"] |= given.pop("hyperparameters", {})
    return runs.write_job(root, spec | {"checkpoints": {"save_steps": SAVE_STEPS}} | given)


def figures(root: Path) -> dict[int, dict[str, float]]:
    """What of each step tells of the experts."""
    told = [event for event in runs.events(root, "metrics") if event["split"] == "train"]
    return {event["step"]: {name: event["values"][name] for name in FIGURES} for event in told}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """One run on 1 rank and on 2, and gone on with from its middle."""
    root = tmp_path_factory.mktemp("experts")
    one = run_of(root / "1", samples={"prompts": ["the cat"], "max_new_tokens": 4})
    assert runs.carry_out(one) == 0
    two = run_of(root / "2")
    finished(runs.start_ranks(2, two))
    again = from_checkpoint(one, root / "again")
    assert runs.carry_out(again) == 0
    return {"1": one, "2": two, "again": again}


def batch_of(parts: list[torch.Tensor]) -> Batch:
    lengths = tuple(len(part) - 1 for part in parts)
    positions = torch.cat([torch.arange(length) for length in lengths])
    return Batch(
        torch.cat([part[:-1] for part in parts]),
        positions,
        torch.arange(len(positions)),
        torch.cat([part[1:] for part in parts]),
        lengths,
        (0,) * len(parts),
        label_counts=lengths,
    )


def test_documents_that_share_a_row_are_balanced_as_they_are_by_themselves():
    model, parts = runs.model("mixtral").train(), documents()
    model.set_attn_implementation(PACKED)
    model.config.router_aux_loss_coef = 0.5
    told: list[dict[str, torch.Tensor]] = []
    for batches in ([batch_of(parts)], [batch_of([part]) for part in parts]):
        model.zero_grad()
        scored = [token_score(model, batch) for batch in batches]
        sum(each.total for each in scored).backward()  # type: ignore[union-attr]
        told.append({name: p.grad.clone() for name, p in model.named_parameters()})
        told[-1] |= {name: torch.stack([each.figures[name] for each in scored]).sum() for name in FIGURES}
        told[-1]["total"] = torch.stack([each.total.detach() for each in scored]).sum()
    assert float(told[0]["balance_loss"]) > sum(LENGTHS)
    for name, expected in told[1].items():
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(told[0][name], expected, rtol=1e-3, atol=1e-5 * scale, msg=name)


def test_a_batch_balanced_as_one_would_depend_on_what_shares_it():
    """As transformers' own loss does: the same documents side by side cost something else than one by one."""
    model, parts = runs.model("mixtral").train(), documents()
    model.set_attn_implementation(PACKED)
    batch = batch_of(parts)
    told = float(token_score(model, batch).figures["balance_loss"])
    with torch.no_grad():
        passed = model.model(
            input_ids=batch.ids_T[None],
            position_ids=batch.positions_T[None],
            segments=batch.segments,
            output_router_logits=True,
        )
        as_one = balance_of(passed.router_logits, replace(batch, segments=(batch.tokens,)), 2).loss_S * batch.count
    assert abs(float(as_one) - told) > 0.02 * told


def test_accumulated_steps_follow_the_trajectory_of_one_large_batch(tmp_path):
    told = []
    for rows, accumulation in ((8, 1), (2, 4)):
        root = run_of(
            tmp_path / str(rows),
            hyperparameters={
                "per_device_train_batch_size": rows,
                "gradient_accumulation_steps": accumulation,
                "packing": False,
                "max_steps": 5,
            },
        )
        with runs.opened(root) as session:
            spec: Any = session.spec
            Training(session, spec).carry_out()
        told.append(root)
    assert runs.losses(told[1]) == pytest.approx(runs.losses(told[0]), rel=1e-5)
    for step, expected in figures(told[0]).items():
        assert figures(told[1])[step] == pytest.approx(expected, rel=1e-4)


def test_ranks_train_the_same_model_and_tell_the_same_of_its_experts(made):
    check_same(made["1"], made["2"])
    for step, expected in figures(made["1"]).items():
        assert figures(made["2"])[step] == pytest.approx(expected, rel=1e-5)


def test_a_run_that_is_gone_on_with_is_the_one_that_was_not_interrupted_bit_for_bit(made):
    rest = {step: loss for step, loss in runs.losses(made["1"]).items() if step > SAVE_STEPS}
    assert runs.losses(made["again"]) == rest
    assert figures(made["again"]) == {step: told for step, told in figures(made["1"]).items() if step > SAVE_STEPS}
    ours, theirs = weights(made["again"] / "output"), weights(made["1"] / "output")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_the_experts_get_is_told_in_shares_of_all_tokens(made):
    told = figures(made["1"])
    assert [*told] == [*range(1, STEPS + 1)]
    for step in told.values():
        assert sum(step[name] for name in FIGURES[1:]) == pytest.approx(1.0)
        assert 1.0 <= step["balance_loss"] < EXPERTS


def test_the_loss_that_is_told_is_that_of_the_labels_alone(made, tmp_path):
    """In the first step nothing has been learnt yet, whatever the balance weighs."""
    heavy = run_of(tmp_path / "run", model={"router_aux_loss_coef": 50.0}, hyperparameters={"max_steps": 1})
    assert runs.carry_out(heavy) == 0
    assert runs.losses(heavy)[1] == runs.losses(made["1"])[1]


def test_the_export_is_a_mixtral_whose_logits_are_ours(made):
    output = made["1"] / "output"
    assert "model.layers.0.block_sparse_moe.experts.3.w1.weight" in weights(output)
    theirs = AutoModelForCausalLM.from_pretrained(output)
    assert isinstance(theirs, MixtralForCausalLM)
    assert theirs.config.sliding_window is None
    ids = torch.arange(40) % 250 + 5
    ours = load_model(output, device=torch.device("cpu")).eval()
    with torch.no_grad():
        expected = theirs(input_ids=ids[None]).logits[0]
        logits = head_of(ours)(backbone_of(ours, batch_of([torch.cat([ids, ids[:1]])])))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_samples_are_written(made):
    assert [event["step"] for event in runs.events(made["1"], "sample")] == [SAVE_STEPS, STEPS]


@pytest.mark.parametrize("tuning", [{"method": "full"}, {"method": "lora", "r": 4}, {"method": "qlora", "r": 4}])
@pytest.mark.parametrize("kind", ["pretrain", "sft"])
def test_a_mixture_is_gone_on_with_in_full_and_takes_no_adapter(made, tmp_path, kind, tuning):
    root = tmp_path / "run"
    spec = runs.sft_spec(max_steps=2, precision="fp32") | {"kind": kind, "tuning": tuning}
    runs.write_job(root, spec)
    rows = [{"text": runs.text(3, seed)} for seed in range(20)] if kind == "pretrain" else runs.answers(40)
    runs.write_rows(root / "data" / "train.jsonl", rows)
    (root / "model").symlink_to(made["1"] / "output")
    code = runs.carry_out(root)
    if tuning["method"] == "full":
        assert code == 0
        assert sum(figures(root)[2][name] for name in FIGURES[1:]) == pytest.approx(1.0)
        return
    (failed,) = runs.events(root, "failed")
    assert failed["code"] == "experts_with_adapter"
    assert "tuning.method to 'full'" in failed["mend"]


def test_the_balance_keeps_experts_in_use(tmp_path):
    """Without it a few get most: 1 is even, 4 is all to one."""
    late = {}
    for weight in (0.0, 0.1):
        root = run_of(
            tmp_path / str(weight),
            model={"router_aux_loss_coef": weight},
            hyperparameters={"max_steps": 30, "learning_rate": 0.01, "per_device_train_batch_size": 8},
        )
        with runs.opened(root) as session:
            spec: Any = session.spec
            Training(session, spec).carry_out()
        late[weight] = sum(figures(root)[step]["balance_loss"] for step in range(23, 31)) / 8
    assert late[0.1] < 1.1
    assert late[0.0] > 1.2
