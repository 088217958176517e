"""LoRA and its variants through PEFT: created, loaded, saved and merged, always in PEFT's own layout."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils.other import ModulesToSaveWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.errors import SpecError
from engine.model.dropout import by_document
from engine.model.quantize import was_quantized
from engine.parts import AdapterTuning, LoraTuning, QloraTuning

_WEIGHTS = "adapter_model.safetensors"
_EMBEDDING = "embed_tokens"
"""PEFT keeps tied weights tied only if the embedding has this name, as in all families but GPT-2's."""
SHAPE = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora", "modules_to_save")
"""The settings without which an adapter's weights cannot be interpreted."""


def new_adapter(model: PreTrainedModel, tuning: AdapterTuning, base_name: str) -> PeftModel:
    """Put a new adapter on the model; its update starts at zero.

    Raises:
        SpecError: the model has no such modules, or they cannot be trained that way.
    """
    targets = tuning.target_modules
    if not isinstance(targets, str):
        _check_targets(model, targets)
    _check_whole(model, tuning.modules_to_save)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=tuning.r,
        lora_alpha=tuning.lora_alpha,  # type: ignore[arg-type] - PEFT divides by it; a fraction is as good
        lora_dropout=tuning.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        fan_in_fan_out=_has_transposed(model),
        use_rslora=tuning.use_rslora,
        use_dora=tuning.use_dora,
        modules_to_save=list(tuning.modules_to_save) or None,
        ensure_weight_tying=not _tied(model).isdisjoint(_named(model, tuning.modules_to_save)),
    )
    try:
        return _around(model, config, base_name)
    except (TypeError, ValueError) as error:
        raise SpecError(
            "target_modules_not_found", str(error), "Use 'all-linear', or the ends of names of linear layers."
        ) from error


def load_adapter(model: PreTrainedModel, folder: Path, *, tuning: AdapterTuning | None = None) -> PeftModel:
    """Put the adapter in `folder` on the model: frozen, or to be trained further with `tuning`.

    Raises:
        SpecError: it is not a LoRA adapter, it does not fit the model, or `tuning` contradicts its shape.
    """
    config = _config_in(folder)
    if tuning is not None:
        _check_shape(model, tuning, config)
        config.lora_dropout = tuning.lora_dropout
    config.inference_mode = tuning is None
    config.fan_in_fan_out = _has_transposed(model)  # in 4 bits no layer is transposed
    try:
        wrapped = _around(model, config, config.base_model_name_or_path)
        # PeftModel.from_pretrained would round modules_to_save to the type of the base.
        found = set_peft_model_state_dict(wrapped, load_file(folder / _WEIGHTS))
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise _misfit(folder, str(error)) from error
    if found.unexpected_keys:
        raise _misfit(folder, f"the model has no {found.unexpected_keys[0]}")
    return wrapped


def tuning_of(folder: Path) -> LoraTuning | QloraTuning:
    """Return the tuning of the adapter in `folder`, as far as its shape shows it; modules by the ends of their names.

    Raises:
        SpecError: it is not a LoRA adapter.
    """
    config = _config_in(folder)
    kind = QloraTuning if was_quantized(folder) else LoraTuning
    targets = config.target_modules
    named = "all-linear" if targets is None or isinstance(targets, str) else _ends(targets)
    # Without validation: an adapter from elsewhere may have other values, and is loaded all the same.
    return kind.model_construct(
        r=config.r,
        lora_alpha=config.lora_alpha,
        target_modules=named,
        modules_to_save=_ends(config.modules_to_save or ()),
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
    )


def shape_of(wrapped: PeftModel) -> dict[str, Any]:
    """Return the settings of the adapter's shape (`SHAPE`), under the names of a spec."""
    config = wrapped.peft_config["default"]
    shape = {name: getattr(config, name) for name in SHAPE}
    return {name: sorted(value) if isinstance(value, list | set) else value for name, value in shape.items()}


def _config_in(folder: Path) -> LoraConfig:
    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _misfit(folder, str(error)) from error
    if not isinstance(config, LoraConfig):
        raise _misfit(folder, f"it is a {config.peft_type.value} adapter")
    return config


def _misfit(folder: Path, why: str) -> SpecError:
    message = f"the adapter in {folder.name}/ does not fit the base model: {why}"
    return SpecError("adapter_not_loaded", message, "Use a LoRA adapter with its own base.")


def _check_shape(model: PreTrainedModel, tuning: AdapterTuning, config: LoraConfig) -> None:
    """Check that the tuning does not contradict the adapter; fields at their defaults are not compared.

    Raises:
        SpecError: a field differs.
    """
    for name in SHAPE:
        asked, own = getattr(tuning, name), getattr(config, name)
        own = () if own is None else own
        if asked == AdapterTuning.model_fields[name].default:
            continue
        names = isinstance(asked, tuple) and not isinstance(own, str)
        if (_named(model, asked) != _named(model, own)) if names else asked != own:
            raise SpecError(
                "adapter_differs",
                f"tuning.{name} is {_shown(asked)}; the adapter that the job continues has {_shown(own)}",
                f"Leave tuning.{name} out to continue the adapter as it is, or start from its base model.",
            )


def _shown(value: Any) -> str:
    """Return a value for a message; modules by the ends of their names, since PEFT may list those of every layer."""
    if isinstance(value, str | int | float):
        return str(value)
    return ", ".join(_ends(value)) or "none"


def _ends(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name.rpartition(".")[2] for name in names}))


def merged(wrapped: PeftModel) -> PreTrainedModel:
    """Return the base with the adapter merged into its weights."""
    model: Any = wrapped.merge_and_unload(safe_merge=True)
    return model


def save_adapter(wrapped: PeftModel, folder: Path, weights: dict[str, Tensor]) -> None:
    """Write adapter_config.json and adapter_model.safetensors, which plain PEFT loads."""
    wrapped.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False, state_dict=weights)
    # PEFT's model card is an empty form.
    (folder / "README.md").unlink(missing_ok=True)


def _around(model: PreTrainedModel, config: LoraConfig, base_name: str | None) -> PeftModel:
    """Wrap the model with the adapter's layers; all trained weights are in fp32."""
    config.base_model_name_or_path = None
    wrapped: Any = get_peft_model(model, config)
    for module in wrapped.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save.float()
    by_document(wrapped, model.get_output_embeddings())
    # PEFT would write the folder that the base was loaded from; readers need the name of the base.
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    return wrapped


def _has_transposed(model: PreTrainedModel) -> bool:
    """Return whether linear layers are transposed, as GPT-2's are unless they are in 4 bits."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def _named(model: PreTrainedModel, names: Iterable[str]) -> set[str]:
    """Return the modules whose names end in these; tied ones count as the embedding."""
    ends = tuple(f".{name}" for name in names)
    found = {name for name, _ in model.named_modules() if f".{name}".endswith(ends)}
    tied = _tied(model)
    return found if tied.isdisjoint(found) else found - tied | {min(tied)}


def _tied(model: PreTrainedModel) -> set[str]:
    """Return the modules that share the embedding's weights, with the embedding; none if nothing is tied."""
    weight = model.get_input_embeddings().weight
    sharing = {name for name, m in model.named_modules() if getattr(m, "weight", None) is weight}
    return sharing if len(sharing) > 1 else set()


def _check_targets(model: PreTrainedModel, names: Iterable[str]) -> None:
    linear = {name for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    _check_there(names, linear, "target_modules", "linear layer")
    tied = _tied(model) & _named(model, names)
    if tied:
        raise SpecError(
            "tied_target",
            f"{min(tied)} is both embedding and head of this model, and an adapter would change only one of them",
            "Take it out of tuning.target_modules; tuning.modules_to_save trains it whole.",
        )


def _check_whole(model: PreTrainedModel, names: Iterable[str]) -> None:
    modules = {name: m for name, m in model.named_modules() if any(True for _ in m.parameters())}
    _check_there(names, modules, "modules_to_save", "module with weights")
    tied = _tied(model) & _named(model, names)
    if tied and not any(name.endswith(_EMBEDDING) for name in _tied(model)):
        raise SpecError(
            "tied_modules",
            f"{min(tied)} is both embedding and head of this model, and PEFT unties those when it reads the adapter",
            "Take it out of tuning.modules_to_save, or use tuning.method 'full'.",
        )
    for name in sorted(_named(model, names)):
        if any(isinstance(part, Linear4bit) for part in modules[name].modules()):
            raise SpecError(
                "module_in_4_bits",
                f"{name} is in 4 bits, which cannot be trained",
                "Take it out of tuning.modules_to_save, or use tuning.method 'lora'.",
            )


def _check_there(names: Iterable[str], known: Iterable[str], field: str, what: str) -> None:
    last = {name.rpartition(".")[2] for name in known}
    for name in names:
        if not any(f".{full}".endswith(f".{name}") for full in known):
            near = difflib.get_close_matches(name, sorted(last), n=1)
            raise SpecError(
                f"{field}_not_found",
                f"tuning.{field} names {name}, and no {what} of the model ends in that",
                f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(last))}.",
            )
