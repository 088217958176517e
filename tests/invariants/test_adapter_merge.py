"""An adapter merged into its base is the adapter applied, and plain PEFT loads what a run exports."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.errors import EngineError
from engine.model.adapters import load_adapter, merged
from engine.model.load import load_model
from engine.proof import prove_in_peft
from tests import runs

IDS = torch.arange(3, 40)[None]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = runs.sft_run(tmp_path_factory.mktemp("merge") / "run")
    assert runs.carry_out(root) == 0
    return root


def applied(trained: Path, adapter: Path) -> torch.Tensor:
    """Logits by transformers and PEFT alone."""
    base = AutoModelForCausalLM.from_pretrained(trained / "model", attn_implementation="eager")
    with torch.no_grad():
        return PeftModel.from_pretrained(base, str(adapter))(input_ids=IDS).logits


def of_merged(trained: Path, adapter: Path) -> torch.Tensor:
    whole = merged(load_adapter(load_model(trained / "model", device=CPU), adapter))
    whole.set_attn_implementation("eager")
    with torch.no_grad():
        return whole(input_ids=IDS).logits


def test_plain_peft_loads_the_export_and_it_changes_the_model(trained):
    base = AutoModelForCausalLM.from_pretrained(trained / "model", attn_implementation="eager")
    with torch.no_grad():
        assert float((base(input_ids=IDS).logits - applied(trained, trained / "output")).abs().max()) > 1e-2
    assert AutoTokenizer.from_pretrained(trained / "output").chat_template is not None
    config = json.loads((trained / "output" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny/1"


def test_a_run_says_that_plain_peft_reads_its_adapter(trained):
    (told,) = [event for event in runs.events(trained, "log") if event["code"] == "adapter_proved"]
    assert told["data"]["gap"] <= told["data"]["tolerance"]
    kinds = [event.get("code", event["type"]) for event in runs.events(trained)]
    assert kinds.index("adapter_proved") < kinds.index("exported")


def test_an_adapter_that_plain_peft_reads_otherwise_ends_the_run(trained, tmp_path):
    changed = Path(shutil.copytree(trained / "output", tmp_path / "adapter"))
    weights = load_file(changed / "adapter_model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, changed / "adapter_model.safetensors")
    root = Path(shutil.copytree(trained, tmp_path / "run"))
    with runs.opened(root) as session:
        session.subject = session.objective.load(root / "output", session.machine)
        with pytest.raises(EngineError, match="its logits on 24 tokens differ") as refused:
            prove_in_peft(session, changed)
    assert refused.value.code == "adapter_differs_in_peft"


def test_the_merged_adapter_equals_the_adapter_applied(trained):
    expected = applied(trained, trained / "output")
    torch.testing.assert_close(of_merged(trained, trained / "output"), expected, rtol=1e-4, atol=1e-4)


def test_a_merge_with_another_scale_differs(trained, tmp_path):
    wrong = Path(shutil.copytree(trained / "output", tmp_path / "adapter"))
    config = json.loads((wrong / "adapter_config.json").read_text())
    (wrong / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] * 2}))
    gap = (of_merged(trained, wrong) - applied(trained, trained / "output")).abs().max()
    assert float(gap) > 1e-2
