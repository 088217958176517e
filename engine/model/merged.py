"""A base and an adapter as one model: the update added to the weights, in fp32."""

from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from engine.model.adapters import load_adapter, merged
from engine.model.load import load_model
from engine.precision import Machine


def merged_model(base: Path, adapter: Path, machine: Machine, *, dequantized: bool) -> PreTrainedModel:
    """The model in fp32; `dequantized`: over the base as it reads from 4 bits, which is what QLoRA trains over."""
    return merged(applied_model(base, adapter, machine, dequantized=dequantized))


def applied_model(base: Path, adapter: Path, machine: Machine, *, dequantized: bool) -> PeftModel:
    """What `merged_model` is made from: the adapter over the base, in fp32."""
    dtype: Any = {"dtype": machine.compute_dtype} if dequantized else {}
    model: Any = load_model(base, device=machine.device, in_4bit=dequantized, **dtype)
    if dequantized:
        model = model.dequantize()
    return load_adapter(model.float(), adapter)
