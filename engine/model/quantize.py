"""Base models in 4 bits: NF4 with double quantization, by bitsandbytes through transformers, on the CPU and on CUDA."""

import json
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from engine.errors import SpecError
from engine.model.config import config_of

_BLOCK = 64
_CONFIG = "quantization_config.json"
_NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}


def nf4(folder: Path, compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return the config for linear layers in NF4, with scales in 8 bits; head, embeddings and norms are not quantized.

    Nor are layers whose input is not a multiple of the 64 weights that share a scale: bitsandbytes 0.50 reads many of
    those back wrong on the CPU (an error of a quarter of the weights' norm instead of a tenth).

    Raises:
        SpecError: no layer is left to quantize, or the folder is no model.
    """
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config_of(folder))
    head = model.get_output_embeddings()
    layers = {
        name: _inputs(m) for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head
    }
    kept = [name for name, inputs in layers.items() if inputs % _BLOCK]
    if len(kept) == len(layers):
        raise SpecError(
            "not_quantizable",
            f"no linear layer of the model takes a multiple of {_BLOCK} inputs, so none can be in 4 bits",
            "Use tuning.method 'lora'.",
        )
    skipped = [name for name, m in model.named_modules() if m is head] + kept
    return BitsAndBytesConfig(**_NF4, bnb_4bit_compute_dtype=compute_dtype, llm_int8_skip_modules=skipped)


def _inputs(layer: nn.Linear | Conv1D) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.weight.shape[0]


def keep_exact(model: nn.Module) -> None:
    """Turn off bitsandbytes' packing for CPU inference.

    On processors with AVX512-BF16 the first forward pass in eval mode would rewrite the weights for good, with
    their scales rounded to bf16: an evaluation would change the training that follows it.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def is_quantized(model: nn.Module) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False))


def linear_layers(model: Any) -> dict[str, bool]:
    """Return whether each linear layer is in 4 bits, by its name; the head is left out."""
    head = model.get_output_embeddings()
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head}
    return {name: isinstance(m, Linear4bit) for name, m in linear.items()}


def say_quantized(folder: Path) -> None:
    """Record beside an adapter that its base was in NF4: over another base it scores differently."""
    (folder / _CONFIG).write_text(json.dumps({"quant_method": "bitsandbytes", **_NF4}, indent=1))


def was_quantized(adapter: Path | None) -> bool:
    return adapter is not None and (adapter / _CONFIG).is_file()


def size_of(parameter: torch.Tensor) -> int:
    """Return the number of weights in a parameter: two of 4 bits share a byte, and ZeRO-3 leaves a part on each rank."""
    divided = getattr(parameter, "ds_numel", None)
    if divided is not None:
        return divided
    state: Any = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()
