"""A base and an adapter merged into one model, in fp32."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.model.adapters import load_adapter, merged
from engine.model.load import load_model
from engine.precision import Machine


def merged_model(base: Path, adapter: Path, machine: Machine, *, dequantized: bool) -> PreTrainedModel:
    """Return the merged model in fp32; `dequantized`: into the base as read back from 4 bits, which QLoRA trains on."""
    return merged(applied_model(base, adapter, machine, dequantized=dequantized))


def applied_model(base: Path, adapter: Path, machine: Machine, *, dequantized: bool) -> PeftModel:
    """Return the adapter over the base, in fp32 and not yet merged."""
    dtype: Any = {"dtype": machine.compute_dtype} if dequantized else {}
    model: Any = load_model(base, device=machine.device, in_4bit=dequantized, **dtype)
    if dequantized:
        model = _dequantized(model)
    return load_adapter(model.float(), adapter)


def _dequantized(model: Any) -> Any:
    """Dequantize the model, and restore GPT-2's Conv1D where transformers leaves nn.Linear, which is transposed."""
    transposed = [name for name, module in model.named_modules() if getattr(module, "source_cls", None) is Conv1D]
    model = model.dequantize()
    for name in transposed:
        linear = model.get_submodule(name)
        with torch.device("meta"):
            layer: Any = Conv1D(linear.out_features, linear.in_features)
        layer.weight, layer.bias = nn.Parameter(linear.weight.t().contiguous()), linear.bias
        model.set_submodule(name, layer)
    return model
