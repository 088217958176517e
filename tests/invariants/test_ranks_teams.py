"""Ranks that work on the same rows, each with a part of the model or of the tokens, train the model of one process."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from engine.data.stream import documents_in_order
from engine.dist.pipeline import PipelineReplicas
from engine.dist.ranks import Ranks
from engine.evaluate import evaluate
from engine.loop import Training
from engine.stop import StopFlag
from tests import runs
from tests.invariants.test_memory_plan import held_in_steps, training
from tests.ranks import DROPOUT, FULL, MADE, SAVE_STEPS, Forked, check_same, from_checkpoint, pretrain, sft

pytestmark = pytest.mark.timeout(900)
"""All runs are made by the first test, some minutes of work where other tests run beside it."""


class Case(NamedTuple):
    """A run over a base of a family, on so many ranks, whose teams share the work in such a way."""

    name: str
    family: str
    ranks: int
    parallel: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return " ".join([self.name, self.family, str(self.ranks), *(f"{how} {size}" for how, size in self.parallel)])


def case(name: str, ranks: int, family: str = "llama", **parallel: int) -> Case:
    return Case(name, family, ranks, tuple(parallel.items()))


CASES = [
    case("pretrain", 2, tp_size=2),
    case("sft full", 4, tp_size=2),
    case("sft full", 2, "qwen3", tp_size=2),  # norms over heads
    case("sft lora", 2, tp_size=2),
    case("whole norms", 2, "qwen3", tp_size=2),
    case("dpo full", 2, tp_size=2),
    case("dpo lora", 2, tp_size=2),
    case("pretrain experts", 4, ep_size=2),
    case("pretrain", 2, cp_size=2),
    case("sft full", 2, "gpt2", cp_size=2),  # learned positions
    case("sft full", 2, "mistral", cp_size=2),  # a sliding window
    case("sft full", 4, cp_size=2, zero_stage=2),
    case("sft lora", 4, cp_size=2),
    case("few rows", 4, cp_size=2),
    case("adapted head", 2, cp_size=2),
    case("adapted head", 2, cp_size=2, zero_stage=2),
    case("sft qlora", 2, cp_size=2),
    case("dpo full", 2, cp_size=2),
    case("dpo lora", 2, cp_size=2),
    case("pretrain", 2, pp_size=2),
    case("sft full", 4, pp_size=2),
    case("sft full", 2, "gpt2", pp_size=2),  # embedding and head in one
    case("sft full", 2, "qwen3", pp_size=2),
    case("sft full", 2, "mistral", pp_size=2),
    case("sft lora", 4, pp_size=2),
    case("layers again", 2, pp_size=2),
    case("dora in 8 bits", 2, pp_size=2),
    case("sft qlora", 2, pp_size=2),
    case("few rows", 4, pp_size=2),
    case("dpo full", 2, pp_size=2),
    case("dpo lora", 2, pp_size=2),
    case("deep", 4, pp_size=4),
]
ALONE = {(one.name, one.family) for one in CASES}
MOVES = [
    ("sft full", case("sft full", 1), case("sft full", 2, tp_size=2)),
    ("sft full", case("sft full", 4, tp_size=2), case("sft full", 1)),
    ("pretrain experts", case("pretrain experts", 4, ep_size=2), case("pretrain experts", 2, ep_size=2)),
    ("sft lora", case("sft lora", 2, tp_size=2), case("sft lora", 2, cp_size=2)),
    ("sft lora", case("sft lora", 4, pp_size=2), case("sft lora", 1)),
    ("sft full", case("sft full", 1), case("sft full", 2, pp_size=2)),
]
"""Runs that go on in another way than they were begun in."""
Made = dict[Case, Path]


def few(root: Path) -> Path:
    """A row a step, so that with two replicas the first never has one that counts."""
    given = sft(FULL, per_device_train_batch_size=1, gradient_accumulation_steps=1)
    return given(root)


def norms(root: Path) -> Path:
    """An adapter that trains the norms over heads whole."""
    return sft({"method": "lora", "r": 4, "modules_to_save": ["q_norm", "k_norm"]})(root)


def head(root: Path) -> Path:
    """One long prompt and a short answer at a time: a rank has no label, and the head has an adapter with dropout."""
    tuning = DROPOUT | {"target_modules": ["q_proj", "lm_head"]}
    made = sft(tuning, packing=False, per_device_train_batch_size=1, gradient_accumulation_steps=4)(root)
    draw = random.Random(0)
    rows = [{"prompt": runs.sentence(draw, 24), "completion": "or"} for _ in range(120)]
    runs.write_rows(made / "data" / "train.jsonl", rows)
    return made


def dora(root: Path) -> Path:
    """By modules, layer by layer anew, and with an optimizer whose state has more than tensors in it."""
    given = {"optim": "adamw_8bit", "activation_checkpointing": "selective"}
    return sft({"method": "lora", "r": 4, "use_dora": True}, **given)(root)


def again(root: Path) -> Path:
    """Layers with dropout that are computed again in the backward pass, several micro-batches after the forward pass."""
    given = {"activation_checkpointing": "full", "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    return sft(DROPOUT, **given)(root)


def deep(root: Path) -> Path:
    """Layers for ranks that are neither the first nor the last, a head of its own, and more micro-batches than ranks."""
    spec = json.loads((pretrain(root) / "job.json").read_text())["spec"]
    spec["model"] |= {"num_hidden_layers": 5, "tie_word_embeddings": False}
    spec["hyperparameters"] |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6}
    return runs.write_job(root, spec)


MAKE = MADE | {
    "few rows": few,
    "whole norms": norms,
    "adapted head": head,
    "layers again": again,
    "dora in 8 bits": dora,
    "deep": deep,
}


def prepared(root: Path, asked: Case) -> Path:
    """`root` is a run of that name."""
    if asked.family != "llama":
        runs.save_base(root / "model", asked.family)
    spec = json.loads((root / "job.json").read_text())["spec"]
    resources = {"device": "cpu", "nproc_per_node": asked.ranks, "parallel": dict(asked.parallel)}
    return runs.write_job(root, spec | {"resources": resources})


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("ranks") / "log") as ranks:
        yield ranks


def carried_out(made: Made, ranks: Forked) -> Made:
    for count in (1, 2, 4):
        roots = [root for asked, root in made.items() if asked.ranks == count]
        if count == 1:
            assert not [root for root in roots if runs.carry_out(root)]
        elif roots:
            ranks.carry_out(count, *roots)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory, ranks) -> Made:
    root = tmp_path_factory.mktemp("teams")
    asked = [*CASES, *(case(name, 1, family) for name, family in sorted(ALONE))]
    roots = {one: prepared(MAKE[one.name](root / str(number)), one) for number, one in enumerate(asked)}
    return carried_out(roots, ranks)


@pytest.mark.parametrize("asked", CASES, ids=str)
def test_teams_train_the_model_of_one_process(made, asked):
    check_same(made[case(asked.name, 1, asked.family)], made[asked])


@pytest.mark.parametrize("asked", CASES, ids=str)
def test_a_run_tells_how_its_teams_share_the_work(made, asked):
    (told,) = [event for event in runs.events(made[asked], "log") if event["code"] == "team_chosen"]
    assert told["data"]["teams"] == asked.ranks // asked.parallel[0][1]
    alone, together = (
        runs.events(root, "started")[0] for root in (made[case(asked.name, 1, asked.family)], made[asked])
    )
    for figure in ("parameters", "trainable_parameters", "total_steps"):
        assert together[figure] == alone[figure]


def test_a_run_goes_on_in_another_way_than_it_was_begun_in(tmp_path, made, ranks):
    gone_on = {
        after: prepared(from_checkpoint(made[before], tmp_path / str(number)), after)
        for number, (_, before, after) in enumerate(MOVES)
    }
    carried_out(gone_on, ranks)
    for name, _, after in MOVES:
        check_same(made[case(name, 1)], gone_on[after], begun=SAVE_STEPS)


def test_both_ends_of_a_pipeline_keep_the_same_copy_of_what_is_embedding_and_head(tmp_path, ranks):
    """To the bit, with more teams than two too: sums of three depend on the order in which they are taken."""
    root = prepared(MAKE["pretrain"](tmp_path / "run"), case("pretrain", 6, pp_size=2))
    spec = json.loads((root / "job.json").read_text())["spec"]
    spec["model"] |= {"tie_word_embeddings": True, "num_hidden_layers": 3}
    spec["hyperparameters"] |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6, "max_steps": 12}
    runs.write_job(root, spec)
    (root / "ranks").mkdir()
    assert ranks.told(same_at_both_ends, 6, root) == [True] * 6


def same_at_both_ends(root: str) -> bool:
    """Whether both ends of this rank's team have the same weights there, once they have trained."""
    with runs.opened(Path(root)) as session:
        spec: Any = session.spec
        training = Training(session, spec)
        training.carry_out()
        stages: Any = training.strategy
        first, last = stages.team.gather(stages.shared[0].detach().clone())
    return torch.equal(first, last)


def test_what_a_team_scored_in_16_bits_is_what_one_process_scores(tmp_path, ranks):
    """To their rounding: a run ends well when its export scores, in one process, as the weights that it came from."""
    roots = []
    for how in ("tp_size", "cp_size"):
        root = prepared(MAKE["sft full"](tmp_path / how), Case("sft full", "llama", 2, ((how, 2),)))
        spec = json.loads((root / "job.json").read_text())["spec"]
        spec["hyperparameters"] |= {"precision": "bf16", "max_steps": 8, "activation_checkpointing": "selective"}
        spec["samples"] = {"prompts": ["the cat"], "max_new_tokens": 4}
        roots.append(runs.write_job(root, spec))
    ranks.carry_out(2, *roots)
    for root in roots:
        assert runs.events(root)[-1]["type"] == "finished"
        assert all(sample["greedy"] for sample in runs.events(root, "sample"))


def test_stages_compute_in_one_way_where_only_one_of_them_has_what_modules_alone_can_do(tmp_path, ranks):
    """Else one would send in 16 bits what the other takes for 32."""
    tuning = {"method": "lora", "r": 4, "lora_dropout": 0.1, "target_modules": ["layers.0.self_attn.q_proj", "lm_head"]}
    root = prepared(sft(tuning, precision="bf16", max_steps=2)(tmp_path / "run"), case("sft lora", 2, pp_size=2))
    ranks.carry_out(2, root)
    assert runs.events(root)[-1]["type"] == "finished"


@pytest.mark.parametrize("tuning", [{"use_dora": True}, {"modules_to_save": ["q_proj"], "target_modules": ["k_proj"]}])
def test_an_adapter_that_no_team_can_share_is_refused_before_it_trains(tmp_path, ranks, tuning):
    """Its shape is its own, which the job that goes on from it does not say."""
    first = sft({"method": "lora", "r": 4} | tuning, max_steps=1)(tmp_path / "first")
    assert runs.carry_out(first) == 0
    root = prepared(MAKE["sft lora"](tmp_path / "run"), case("sft lora", 2, tp_size=2))
    spec = json.loads((root / "job.json").read_text())["spec"]
    runs.write_job(root, spec | {"tuning": {"method": "lora"}})
    shutil.copytree(first / "output", root / "adapter")
    with pytest.raises(AssertionError):
        ranks.carry_out(2, root)
    failed = runs.events(root)[-1]
    assert (failed["type"], failed["code"]) == ("failed", "team_unsupported")


WATCHED = [
    *(("full", "tp_size"), ("lora", "tp_size"), ("full", "cp_size"), ("lora", "cp_size"), ("full", "ep_size")),
    *(("full", "pp_size"), ("lora", "pp_size")),
]


@pytest.fixture(scope="module")
def held(tmp_path_factory, ranks) -> dict[tuple[str, str], list[tuple[list[int], int]]]:
    """Of each of two ranks, what it held in each of some steps and what was planned."""
    folder = tmp_path_factory.mktemp("held")
    roots = [training(folder / " ".join(watched), watched[0], precision="fp32") for watched in WATCHED]
    for root, (_, how) in zip(roots, WATCHED, strict=True):
        spec = json.loads((root / "job.json").read_text())["spec"]
        if how == "ep_size":
            spec["model"] |= {"num_local_experts": 4}
        runs.write_job(root, spec | {"resources": {"device": "cpu", "nproc_per_node": 2, "parallel": {how: 2}}})
        (root / "ranks").mkdir()
    told = ranks.told(held_and_planned, 2, *roots)
    return {watched: [of_rank[number] for of_rank in told] for number, watched in enumerate(WATCHED)}


def held_and_planned(*roots: str) -> list[tuple[list[int], int]]:
    """Of one of the ranks."""
    found = [held_in_steps(Path(root), 8) for root in roots]
    return [(held, plan.tensors) for held, plan in found]


@pytest.mark.parametrize("watched", WATCHED, ids=" ".join)
def test_a_rank_of_a_team_holds_what_was_planned(held, watched):
    """In the step in which least was held: gloo's threads may hold what was sent a moment longer.

    Of a pipeline, the rank that holds most. Of experts the mean, since one gets the tokens that the other does not.
    """
    told, planned = [steps for steps, _ in held[watched]], held[watched][0][1]
    if watched[1] == "ep_size":
        told = [[sum(of_step) / len(told) for of_step in zip(*told, strict=True)]]
    measured = [min(steps) for steps in told]
    for each in [max(measured)] if watched[1] == "pp_size" else measured:
        assert each == pytest.approx(planned, rel=0.10)


@pytest.mark.parametrize(("dealt", "every"), [(Ranks(), 1), (PipelineReplicas(team=Ranks(0, 1)), 8)])
def test_stages_of_an_evaluation_seldom_wait_to_be_asked_whether_to_stop(tmp_path, dealt, every):
    with runs.opened(MADE["sft full"](tmp_path / "run")) as session:
        corpus = session.rows.validation
        assert corpus is not None
        batches = len(list(documents_in_order(corpus, 40)))
        asked = Asked()
        evaluate(session.subject.model, session.loss, corpus, asked, dealt, token_budget=40)
        assert asked.times == -(-batches // every)
        assert batches > 1


class Asked(StopFlag):
    times = 0

    def check(self) -> None:
        self.times += 1
