"""What is trained whole beside an adapter is planned to learn, name by name, as the model is made."""

from typing import Any

import pytest
from torch import nn

from engine.errors import SpecError
from engine.model.adapters import new_adapter
from engine.parts import FullTuning, Hyperparameters, LoraTuning, QloraTuning
from engine.plan import Setting, Shape
from engine.plan.shape import NO_PLAN
from engine.plan.weights import trained_weights
from tests import runs


def planned(config: dict[str, Any], tuning: Any) -> int:
    return trained_weights(Shape.of(config), Setting("cpu", "fp32", tuning, Hyperparameters()))


def tied(model: Any) -> Any:
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.get_input_embeddings().weight
    return model


def trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


OF_LLAMA = [
    ["model.embed_tokens"],
    ["lm_head"],
    ["embed_tokens", "lm_head"],
    ["down_proj"],
    ["mlp.up_proj", "k_proj"],
    ["norm"],
    ["input_layernorm"],
]


@pytest.mark.parametrize("ends", ["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("named", OF_LLAMA, ids=" ".join)
def test_as_many_weights_learn_as_are_planned(family, named, ends):
    model = runs.model(family)
    config = model.config.to_dict() | {"tie_word_embeddings": ends == "tied"}
    tuning = LoraTuning(r=4, modules_to_save=tuple(named))
    assert planned(config, tuning) == trained(new_adapter(tied(model) if ends == "tied" else model, tuning, "tiny/1"))


@pytest.mark.parametrize("named", ["c_attn", "c_proj", "attn.c_proj", "ln_1", "ln_f", "wpe"])
def test_so_they_do_of_gpt2(named):
    model, tuning = runs.model("gpt2"), LoraTuning(r=4, modules_to_save=(named,))
    config = model.config.to_dict()
    assert planned(config, tuning) == trained(new_adapter(model, tuning, "tiny/1"))


@pytest.mark.parametrize("named", ["mlp", "layers.1.mlp.down_proj"])
def test_of_what_is_not_in_every_layer_or_more_than_one_module_there_is_no_plan(named):
    with pytest.raises(SpecError, match=named) as caught:
        planned(runs.model().config.to_dict(), LoraTuning(modules_to_save=("norm", named)))
    assert caught.value.code == NO_PLAN


def test_of_layers_in_4_bits_that_should_learn_there_is_no_plan():
    config = runs.model(width=64).config.to_dict()
    with pytest.raises(SpecError, match="4 bits") as caught:
        planned(config, QloraTuning(modules_to_save=("q_proj",)))
    assert caught.value.code == NO_PLAN
    assert planned(config, QloraTuning(modules_to_save=("lm_head",))) > planned(config, QloraTuning())


def test_where_all_weights_learn_there_is_nothing_beside():
    config = runs.model().config.to_dict()
    assert planned(config, FullTuning()) == trained(runs.model())
