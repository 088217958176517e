"""Layers that lie elsewhere while no pass is in them, copied to where they are used.

What stands for a GPU here is the CPU by a second name: all is copied as it would be, and none of it is a GPU's memory.
"""

import copy
import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.harness.allocations import peak_of
from engine.data.corpus import Batch
from engine.model import layer_offload, llama
from engine.model.checkpointing import checkpoint_activations
from engine.model.forward import labelled_states
from engine.model.layer_offload import held_bytes, offload_layers, offloaded_layers_of
from engine.offload import HOME, lies_in_file
from tests import runs

DEVICE = torch.device("cpu", 0)
IDS = torch.arange(3, 15)[None]


def decoder(family: str = "llama", width: int = 32, layers: int = 4) -> Any:
    made = runs.model(family, width=width, layers=layers).requires_grad_(False)
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return made


def tuned(made: Any, checkpointing: Any = "none") -> Any:
    torch.manual_seed(1)
    shape = LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, fan_in_fan_out=hasattr(made, "transformer")
    )
    model = get_peft_model(made, shape)
    checkpoint_activations(model, checkpointing)
    return model.train()


def passed(model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "mistral"])
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_copied_for_a_pass_gives_the_same_loss_and_gradients(tmp_path, family, checkpointing, on_disk):
    there = decoder(family)
    elsewhere = copy.deepcopy(there)
    offload_layers(elsewhere, tmp_path if on_disk else HOME, DEVICE)
    (loss, grads), (expected, wanted) = passed(tuned(elsewhere, checkpointing)), passed(tuned(there, checkpointing))
    assert loss == expected
    assert grads.keys() == wanted.keys()
    assert all(torch.equal(grads[name], wanted[name]) for name in wanted)


def layers_bytes(made: Any) -> int:
    return sum(weight.nbytes for layer in made.model.layers for weight in layer.parameters())


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_two_layers_are_there_at_a_time_and_autograd_keeps_none(checkpointing):
    there = decoder(width=256, layers=12)
    size = layers_bytes(there)
    elsewhere = copy.deepcopy(there)
    offload_layers(elsewhere, HOME, DEVICE)
    model = tuned(elsewhere, checkpointing)
    passed(model)
    others = peak_of(lambda: passed(tuned(there, checkpointing)))
    assert peak_of(lambda: passed(model)) < others + 2.1 * size / 12
    assert offloaded_layers_of(elsewhere).at_once_bytes == 2 * size / 12
    frozen = [weight for weight in elsewhere.model.layers.parameters() if not weight.requires_grad]
    assert sum(map(held_bytes, frozen)) <= size / 12


def test_peft_finds_the_shapes_of_what_lies_elsewhere():
    made = decoder("gpt2")
    offload_layers(made, HOME, DEVICE)
    counted = sum(weight.numel() for weight in tuned(made).parameters())
    assert counted == sum(weight.numel() for weight in tuned(decoder("gpt2")).parameters())


def by_hand(made: Any) -> torch.Tensor:
    places = torch.arange(IDS.shape[1])
    return labelled_states(made, Batch(IDS[0], places, places, places, (len(places),), ()))


def test_copies_of_weights_that_learn_do_not_wait_for_the_way_back(tmp_path):
    there = decoder(width=256, layers=12).requires_grad_(True)
    elsewhere = copy.deepcopy(there)
    offload_layers(elsewhere, tmp_path, HOME)
    held, less = (peak_of(lambda made=made: by_hand(made)) for made in (there, elsewhere))
    assert held - less > 0.8 * layers_bytes(there)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_layers_by_hand_are_multiplied_where_they_lie(tmp_path, family):
    made = decoder(family)
    offload_layers(made, tmp_path, HOME)
    assert llama.takes(made)
    with torch.no_grad():
        by_hand(made)
    for layer in made.model.layers:
        assert all(lies_in_file(weight) for weight in layer.parameters())
        q, k = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
        assert k.data_ptr() == q.data_ptr() + q.nbytes  # else both would be copied to be one


def test_a_decoder_whose_layers_lie_elsewhere_is_not_copied():
    made = decoder()
    offload_layers(made, HOME, DEVICE)
    with pytest.raises(TypeError, match="load it once more"):
        copy.deepcopy(made)


def test_a_failure_inside_a_layer_leaves_the_next_pass_as_it_is():
    made, there = decoder(), decoder()
    offload_layers(made, HOME, DEVICE)
    failing = made.model.layers[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made(input_ids=IDS)
    failing.remove()
    torch.testing.assert_close(made(input_ids=IDS).logits, there(input_ids=IDS).logits, rtol=0, atol=0)


def test_a_disk_that_cannot_hold_the_layers_is_found_full_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(OSError, match="the layers") as failed:
        offload_layers(decoder(), tmp_path, HOME)
    assert failed.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_what_a_pass_has_left_is_not_resident(tmp_path):
    made = decoder(width=256, layers=12)
    size = layers_bytes(made)
    offload_layers(made, tmp_path, HOME)
    assert resident_in_files(tmp_path) == 0
    seen: list[int] = []
    leave = layer_offload.InFile.leave

    def watched(layer: layer_offload.InFile) -> None:
        seen.append(resident_in_files(tmp_path))
        leave(layer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_offload.InFile, "leave", watched)
        passed(tuned(made))
    assert len(seen) > 12
    assert size / 12 <= max(seen) <= 2.1 * size / 12


def resident_in_files(folder: Path) -> int:
    """Bytes, of this process, of offloaded files of this folder."""
    told = Path("/proc/self/smaps").read_text().splitlines()
    ours, found = False, 0
    for line in told:
        if "-" in line.split(" ", 1)[0]:
            ours = f"{folder}/.offload-" in line
        elif ours and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found
