"""What ranks hold of a plan that they divide, and how far they have to."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from engine.errors import SpecError
from engine.jobs import JOB_SPEC
from engine.parts import FullTuning, Hyperparameters, LoraTuning, QloraTuning, Resources
from engine.plan import MemoryPlan, Setting, Shape, Workload
from engine.plan.memory import moments
from engine.plan.ranks import bucket_numbers, divided, least_stage, plan_of_rank, stages, undividable, unsharable
from engine.plan.weights import immovable, trained_weights

TRAINED = 1_000_000
PLAN = MemoryPlan(
    weights=4 * TRAINED,
    gradients=4 * TRAINED,
    optimizer=8 * TRAINED,
    activations=700,
    logits=200,
    workspace=100,
    runtime=0,
)


@pytest.mark.parametrize(
    ("stage", "bytes_a_weight"),
    [(0, 4 + 4 + 8), (1, 4 + 4 + (8 + 4) / 4), (2, 4 + (4 + 8 + 4) / 4), (3, (4 + 4 + 8 + 4) / 4)],
)
def test_each_stage_divides_more_among_four_ranks(stage, bytes_a_weight):
    part = divided(PLAN, TRAINED, stage=stage, ranks=4)
    assert part.total == bytes_a_weight * TRAINED + 1000


def held(stage: int) -> int:
    """By each of four ranks."""
    return divided(PLAN, TRAINED, stage=stage, ranks=4).total


FULL = Setting("cuda", "bf16", FullTuning(), Hyperparameters())


@pytest.mark.parametrize(("room", "stage"), [(16.1, 0), (12, 1), (9, 2), (6, 3), (1, 3)])
def test_no_more_is_divided_than_the_room_asks_for(room, stage):
    assert least_stage(held, FULL, ranks=4, room_bytes=int(room * TRAINED)) == stage


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_each_rank_has_a_frozen_copy_of_its_own(stage):
    shape, work, beside = Shape.of(LLAMA), Workload(64, 64, 64), replace(FULL, frozen=1)
    plain, more = (plan_of_rank(shape, work, setting, stage=stage, ranks=4) for setting in (FULL, beside))
    assert more == replace(plain, weights=plain.weights + 4 * trained_weights(shape, FULL))


def test_weights_that_cannot_be_divided_stay_whole():
    four_bits = replace(FULL, tuning=QloraTuning())
    assert least_stage(held, four_bits, ranks=4, room_bytes=0) == 2


def test_one_rank_divides_nothing():
    assert least_stage(held, FULL, ranks=1, room_bytes=0) == 0


def test_the_moment_that_holds_most_is_looked_for_after_the_division():
    """Whole, it is when all gradients are there; divided among many, when the activations are."""
    work = Workload(tokens=1024, labels=1024, document=512)
    setting = Setting("cuda", "bf16", FullTuning(), Hyperparameters(activation_checkpointing="full"))
    shape = Shape.of({"model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 24,
                      "num_attention_heads": 8, "vocab_size": 4096})  # fmt: skip
    whole, part = (plan_of_rank(shape, work, setting, stage=stage, ranks=16) for stage in (0, 3))
    assert whole == max(moments(shape, work, setting), key=lambda plan: plan.total)
    assert part.activations > whole.activations
    trained = trained_weights(shape, setting)
    assert part.total > divided(whole, trained, stage=3, ranks=16).total


@pytest.mark.parametrize(("trained", "largest"), [(0, 0), (8 * 93_313, 18_432), (7, 7), (10**9, 2**31 + 1)])
def test_a_bucket_is_even_and_no_larger_than_needed(trained, largest):
    bucket = bucket_numbers(trained, largest)
    assert bucket % 2 == 0
    assert bucket <= 1 << 24
    assert bucket >= min(largest, 1 << 24)


@pytest.mark.parametrize("target", ["lm_head", "0.self_attn.q_proj"])
@pytest.mark.parametrize("use_dora", [False, True])
def test_adapters_of_layers_that_the_plan_does_not_know_are_planned_all_the_same(target, use_dora):
    setting = replace(FULL, tuning=LoraTuning(target_modules=(target,), use_dora=use_dora))
    shape = Shape.of({"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                      "vocab_size": 512})  # fmt: skip
    work = Workload(tokens=64, labels=64, document=32)
    assert plan_of_rank(shape, work, setting, stage=1, ranks=2).total > 0


AWAY, LORA = Hyperparameters(offload_param="cpu"), LoraTuning()


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        (replace(FULL, device="cpu", hyperparameters=Hyperparameters(offload_param="disk")), "all of them at once"),
        (replace(FULL, hyperparameters=AWAY), "the weights learn"),
        (replace(FULL, hyperparameters=AWAY, tuning=QloraTuning()), "4 bits"),
        (replace(FULL, hyperparameters=AWAY, tuning=LoraTuning(use_dora=True)), "DoRA"),
        (replace(FULL, hyperparameters=AWAY, tuning=LoraTuning(modules_to_save=("q_proj",))), "modules_to_save"),
    ],
)
def test_layers_that_cannot_lie_elsewhere_say_why(setting, why):
    refusal = immovable(setting)
    assert refusal is not None
    assert why in refusal.message
    assert "offload" in refusal.mend


@pytest.mark.parametrize(
    "setting",
    [
        replace(FULL, device="cpu", hyperparameters=AWAY),
        replace(FULL, hyperparameters=AWAY, tuning=LORA),
        replace(FULL, hyperparameters=AWAY, tuning=LoraTuning(modules_to_save=("lm_head",))),
        replace(FULL, device="cpu", hyperparameters=Hyperparameters(offload_param="disk"), tuning=QloraTuning()),
    ],
)
def test_layers_lie_where_they_can(setting):
    assert immovable(setting) is None


def test_a_cpu_that_is_to_have_layers_in_its_own_memory_shares_them_as_without():
    shape = Shape.of(LLAMA)
    two = replace(FULL, device="cpu", tp_size=2)
    assert unsharable(shape, replace(two, hyperparameters=AWAY)) is None
    refusal = unsharable(shape, replace(two, hyperparameters=Hyperparameters(offload_param="disk")))
    assert refusal is not None
    assert "layers elsewhere" in refusal.message


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        (replace(FULL, hyperparameters=Hyperparameters(optim="adamw_8bit")), "zero_with_8_bits"),
        (replace(FULL, hyperparameters=Hyperparameters(offload_optimizer="cpu")), "zero_with_offload"),
        (replace(FULL, device="cpu", hyperparameters=Hyperparameters(offload_optimizer="disk")), "zero_with_offload"),
        (replace(FULL, hyperparameters=Hyperparameters(offload_param="disk")), "zero_with_offload"),
        (replace(FULL, hyperparameters=Hyperparameters(offload_param="cpu")), "zero_with_offload"),
        (replace(FULL, precision="fp16"), "zero_with_fp16"),
        (replace(FULL, tuning=QloraTuning()), "zero_3_in_4_bits"),
        (replace(FULL, tuning=LoraTuning(target_modules=("q_proj", "lm_head"))), "zero_3_with_adapted_head"),
        (replace(FULL, tp_size=2), "zero_with_parts"),
        (replace(FULL, ep_size=2), "zero_with_parts"),
        (replace(FULL, pp_size=2), "zero_with_parts"),
    ],
)
def test_what_cannot_be_divided_says_why(setting, code):
    refusal = undividable(setting, 3)
    assert refusal is not None
    assert refusal.code == code
    assert "zero_stage" in refusal.message + refusal.mend


def test_an_adapter_on_the_head_leaves_the_weights_undivided():
    setting = replace(FULL, tuning=LoraTuning(target_modules=("q_proj", "lm_head")))
    assert undividable(setting, 2) is None
    assert least_stage(lambda stage: 10 - stage, setting, ranks=2, room_bytes=7) == 2


LLAMA = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 512}  # fmt: skip
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 512}


@pytest.mark.parametrize(
    ("config", "setting", "code"),
    [
        (LLAMA, replace(FULL, tp_size=4), "team_does_not_divide"),  # as to its key/value heads
        (LLAMA, replace(FULL, cp_size=4), "team_does_not_divide"),
        (LLAMA | {"intermediate_size": 95}, replace(FULL, tp_size=2), "team_does_not_divide"),
        (LLAMA, replace(FULL, tp_size=2, tuning=QloraTuning()), "team_unsupported"),
        (LLAMA, replace(FULL, tp_size=2, tuning=LoraTuning(use_dora=True)), "team_unsupported"),
        (LLAMA, replace(FULL, tp_size=2, hyperparameters=Hyperparameters(optim="adamw_8bit")), "team_unsupported"),
        (GPT2, replace(FULL, tp_size=2), "team_unsupported"),
        (LLAMA, replace(FULL, ep_size=2), "team_unsupported"),
        (MIXTRAL, replace(FULL, ep_size=3), "team_does_not_divide"),
        (MIXTRAL, replace(FULL, tp_size=2), "team_unsupported"),
        (MIXTRAL, replace(FULL, cp_size=2), "team_unsupported"),
        (MIXTRAL, replace(FULL, pp_size=2), "team_unsupported"),
        (LLAMA, replace(FULL, pp_size=2, tuning=LoraTuning(modules_to_save=("lm_head",))), "team_unsupported"),
        (LLAMA, replace(FULL, pp_size=3), "team_does_not_divide"),
    ],
)
def test_what_no_team_can_share_says_why(config, setting, code):
    with pytest.raises(SpecError) as refused:
        plan_of_rank(Shape.of(config), Workload(64, 64, 32), setting, stage=0, ranks=4)
    assert refused.value.code == code
    assert "p_size" in refused.value.message


@pytest.mark.parametrize("setting", [replace(FULL, cp_size=2, tuning=QloraTuning()), replace(FULL, cp_size=2)])
def test_whoever_has_a_part_of_the_tokens_holds_fewer_activations(setting):
    work = Workload(tokens=4096, labels=4096, document=4096)
    alone, part = (
        plan_of_rank(Shape.of(LLAMA), work, each, stage=0, ranks=2) for each in (replace(setting, cp_size=1), setting)
    )
    assert part.activations == pytest.approx(alone.activations / 2, rel=0.05)
    assert part.weights == alone.weights


def test_whoever_has_some_of_the_experts_holds_fewer_weights():
    shape, work = Shape.of(MIXTRAL), Workload(tokens=64, labels=64, document=64)
    alone, part = (plan_of_rank(shape, work, each, stage=0, ranks=2) for each in (FULL, replace(FULL, ep_size=2)))
    of_experts = 2 * 4 * 3 * 64 * 96
    assert alone.weights - part.weights == 4 * of_experts // 2
    assert alone.optimizer - part.optimizer == 8 * of_experts // 2
    assert part.activations < alone.activations


def test_whoever_has_a_part_of_the_layers_holds_fewer_weights():
    setting, work = replace(FULL, tp_size=2), Workload(tokens=64, labels=64, document=64)
    shape = Shape.of(LLAMA)
    alone, part = (plan_of_rank(shape, work, each, stage=0, ranks=2) for each in (FULL, setting))
    assert alone.weights - part.weights == 4 * shape.linear_weights // 2
    assert alone.optimizer - part.optimizer == 8 * shape.linear_weights // 2


@pytest.mark.parametrize(
    ("layers", "vocabulary", "count", "expected"),
    [
        (4, 8, 2, [range(2), range(2, 4)]),
        (7, 8, 3, [range(3), range(3, 5), range(5, 7)]),
        (4, 4096, 2, [range(3), range(3, 4)]),  # a head as large as many layers
        (5, 4096, 4, [range(2), range(2, 3), range(3, 4), range(4, 5)]),
        (2, 4096, 2, [range(1), range(1, 2)]),
    ],
)
def test_the_last_rank_of_a_pipeline_has_fewer_layers_where_the_head_is_large(layers, vocabulary, count, expected):
    assert stages(Shape.of(LLAMA | {"num_hidden_layers": layers, "vocab_size": vocabulary}), count) == expected


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tuning", [FullTuning(), LoraTuning(), QloraTuning()])
def test_the_ranks_of_a_pipeline_hold_together_what_one_holds(tied, tuning):
    """And of what is embedding and head in one, both ends a copy."""
    shape, setting = (
        Shape.of(LLAMA | {"num_hidden_layers": 5, "tie_word_embeddings": tied}),
        replace(FULL, tuning=tuning),
    )
    parts = [shape.stage(layers) for layers in stages(shape, 3)]
    again = shape.embedding if tied else 0
    assert sum(part.linear_weights + part.other_weights for part in parts) == (
        shape.linear_weights + shape.other_weights + again
    )
    learnt = sum(trained_weights(part, setting) for part in parts)
    assert learnt == trained_weights(shape, setting) + (0 if setting.adapter else again)


def test_a_pipeline_has_as_many_micro_batches_in_work_as_ranks_are_to_come():
    shape, setting = Shape.of(LLAMA | {"num_hidden_layers": 16, "vocab_size": 8}), replace(FULL, pp_size=4)
    once, often = (
        plan_of_rank(shape, Workload(4096, 4096, 4096, passes), setting, stage=0, ranks=4) for passes in (1, 8)
    )
    assert often.activations == pytest.approx(4 * once.activations, rel=0.1)
    assert often.weights == pytest.approx(once.weights, rel=0.01)


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"nproc_per_node": 3, "parallel": {"tp_size": 2}}, "not a multiple of parallel.tp_size"),
        ({"nproc_per_node": 2, "parallel": {"cp_size": 4}}, "not a multiple of parallel.cp_size"),
        ({"nproc_per_node": 4, "parallel": {"tp_size": 2, "cp_size": 2}}, "cannot be combined"),
        ({"nproc_per_node": 4, "parallel": {"ep_size": 2, "cp_size": 2}}, "cannot be combined"),
        ({"nproc_per_node": 2, "parallel": {"tp_size": 2, "zero_stage": 1}}, "leave one of them out"),
        ({"nproc_per_node": 3, "parallel": {"ep_size": 2}}, "not a multiple of parallel.ep_size"),
        ({"nproc_per_node": 4, "parallel": {"pipeline_parallel_size": 2, "zero_stage": 1}}, "leave one of them out"),
    ],
)
def test_teams_that_cannot_be_are_refused_with_the_spec(resources, told):
    with pytest.raises(ValidationError, match=told):
        Resources.model_validate(resources)


def test_rows_are_dealt_out_among_teams():
    asked = Resources.model_validate({"num_nodes": 2, "nproc_per_node": 4, "parallel": {"tensor_parallel_size": 2}})
    assert (asked.world_size, asked.replicas) == (8, 4)


@pytest.mark.parametrize(
    ("weights", "ranks", "gigabytes"),
    [
        (7.5e9, 1, (120, 120, 120)),
        (7.5e9, 4, (52.5, 41.3, 30)),
        (7.5e9, 16, (35.6, 21.6, 7.5)),
        (7.5e9, 64, (31.4, 16.6, 1.88)),
        (7.5e9, 1024, (30.1, 15.1, 0.12)),
        (128e9, 64, (536, 284, 32)),
        (1e12, 1024, (4011, 2013, 15.6)),
    ],
)
def test_with_weights_and_gradients_in_16_bits_it_is_the_table_of_the_paper(weights, ranks, gigabytes):
    # Rajbhandari et al. 2020, table 1: 2 bytes for a weight, 2 for its gradient, 12 for masters and moments.
    numbers = int(weights)
    whole = MemoryPlan(2 * numbers, 2 * numbers, 8 * numbers, 0, 0, 0, 0)
    for stage, expected in enumerate(gigabytes, 1):
        part = divided(whole, numbers, stage=stage, ranks=ranks)
        assert part.total / 1e9 == pytest.approx(expected, rel=0.01, abs=0.005)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"kind": "sft", "samples": {"prompts": ["the cat"]}}, "samples are generated with all layers"),
        ({"kind": "dpo", "dpo": {"reference": "frozen_copy"}}, "use 'cached'"),
        ({"kind": "dpo", "dpo": {"reference": "disabled_adapter"}}, "use 'cached'"),
    ],
)
def test_what_needs_all_layers_at_once_is_refused_in_a_pipeline(asked, told):
    spec = {"model": "tiny/1", "training_file": "file-1"} | asked
    resources = {"nproc_per_node": 2, "parallel": {"pp_size": 2}}
    JOB_SPEC.validate_python(spec | {"resources": {"nproc_per_node": 2}})
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python(spec | {"resources": resources})


def test_an_evaluation_has_no_teams():
    spec = {"kind": "eval", "model": "tiny/1", "eval_file": "file-1"}
    resources = {"nproc_per_node": 2, "parallel": {"tp_size": 2}}
    JOB_SPEC.validate_python(spec | {"resources": {"nproc_per_node": 2}})
    with pytest.raises(ValidationError, match="each process takes its own"):
        JOB_SPEC.validate_python(spec | {"resources": resources})
