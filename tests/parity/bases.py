"""Tiny random models of each family on disk, an adapter that already changes what they say, and rows to train on."""

import random
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests import runs

POSITIONS = 512
# Every width a multiple of 64: bitsandbytes 0.50 reads narrower layers back wrong on the CPU.
_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
}
_GPT2_SHAPE: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {**_SHAPE, "tie_word_embeddings": True}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, _SHAPE),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {**_SHAPE, "head_dim": 32}),
    "mistral": (MistralConfig, MistralForCausalLM, {**_SHAPE, "sliding_window": 7}),
    "gpt2": (GPT2Config, GPT2LMHeadModel, _GPT2_SHAPE),
}
# Dropout of the model's own is off in the engine; GPT-2's config has it on.
_NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
_SHARPER = 3.0
"""The usual initialisation attends to everything alike; weights this much larger show what a token sees."""


def save_base(folder: Path, family: str = "llama") -> Path:
    """Safetensors, config and tokenizer of a random model."""
    tokenizer = runs.tokenizer()
    config, kind, shape = FAMILIES[family]
    torch.manual_seed(0)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    dropout = _NO_DROPOUT if family == "gpt2" else {}
    model = kind(config(vocab_size=len(tokenizer), **shape, **special, **dropout))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(_SHARPER)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path) -> Path:
    """A LoRA adapter on every linear layer; both of its matrices are random, so that every gradient flows from step 1."""
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
    wrapped: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    wrapped.save_pretrained(str(folder))
    return folder


def with_adapter(model: Any, folder: Path) -> PeftModel:
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def conversations(rows: int) -> list[dict[str, Any]]:
    """Chats of one to three turns: masks of every assistant turn are part of what is compared."""
    rng = random.Random(0)
    return [{"messages": _turns(rng, rng.randint(1, 3))} for _ in range(rows)]


def _turns(rng: random.Random, count: int) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for _ in range(count):
        turns.append({"role": "user", "content": runs.sentence(rng, rng.randint(2, 12))})
        turns.append({"role": "assistant", "content": runs.sentence(rng, rng.randint(1, 10))})
    return turns


def pairs(rows: int) -> list[dict[str, Any]]:
    return runs.pairs(rows)
