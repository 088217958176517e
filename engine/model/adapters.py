"""LoRA through PEFT: new, gone on from, saved and merged, always in PEFT's own layout."""

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from engine.errors import SpecError
from engine.parts import AdapterTuning


def new_adapter(model: PreTrainedModel, tuning: AdapterTuning, base_name: str) -> PeftModel:
    """A fresh adapter: the update starts at zero."""
    targets = tuning.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=tuning.r,
        lora_alpha=tuning.lora_alpha,  # type: ignore[arg-type] - PEFT divides by it; a fraction is as good
        lora_dropout=tuning.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    try:
        wrapped: Any = get_peft_model(model, config)
    except ValueError as error:
        raise SpecError(
            "target_modules_not_found", str(error), "Use 'all-linear', or the ends of names of linear layers."
        ) from error
    return _named(wrapped, base_name)


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool) -> PeftModel:
    """The adapter in `folder` around `model`."""
    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
        base_name = config.base_model_name_or_path
        wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SpecError(
            "adapter_not_loaded",
            f"the adapter in {folder.name}/ does not fit the base model: {error}",
            "Use its own base.",
        ) from error
    return _named(wrapped, base_name)


def _named(wrapped: Any, base_name: str | None) -> PeftModel:
    """PEFT writes the folder that the base came from; the name of the base is what a reader can use."""
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    return wrapped


def merged(wrapped: PeftModel) -> PreTrainedModel:
    """The base with the adapter added into its weights."""
    model: Any = wrapped.merge_and_unload(safe_merge=True)
    return model


def save_adapter(wrapped: PeftModel, folder: Path) -> None:
    """adapter_config.json and adapter_model.safetensors; plain PEFT loads them."""
    wrapped.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    # PEFT's model card is an empty form.
    (folder / "README.md").unlink(missing_ok=True)
