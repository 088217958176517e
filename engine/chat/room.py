"""Memory for answers: what the keys and values of a token take, and how much there is for them."""

from typing import Any

import torch

from engine.chat.talk import rows_of
from engine.errors import OutOfMemory
from engine.forecast.room import room_bytes
from engine.precision import Machine

_COPIES = 2
"""When batches are joined, both and the result are in memory: half of the free memory is reserved for that."""
_SPARE_BYTES = 256 << 20
"""For what a step computes besides keys and values, and for other processes of the machine."""


class NotNow(Exception):
    """There is no memory for a question now; there may be once the answers under way have ended."""


def values_of(config: Any) -> int:
    """Return how many numbers a model caches for a token: its keys and values in all layers."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * layers_of(config) * heads * width


def layers_of(config: Any) -> int:
    return config.get_text_config().num_hidden_layers


def step_bytes(layer_bytes: int) -> int:
    """Return the memory needed for a step, or to remove a row: both copy keys and values, one layer at a time."""
    return 2 * layer_bytes + _SPARE_BYTES


def free_bytes(machine: Machine) -> int:
    """Return the memory by which the keys and values of answers may grow."""
    return unused_bytes(machine) // _COPIES


def unused_bytes(machine: Machine) -> int:
    """Return the memory that is unused now."""
    free = room_bytes(machine)
    if machine.device.type == "cuda":  # what torch has reserved of the device and does not use is free too
        free += torch.cuda.memory_reserved(machine.device) - torch.cuda.memory_allocated(machine.device)
    return free


def no_room(asked: dict[str, Any], width: int, needed: int, free: int) -> OutOfMemory:
    """Return the error for a question that does not fit even alone, and so never will."""
    rows, prompts = rows_of(asked), len(asked.get("prompts", [""]))
    limit = "no max_tokens" if asked["max_tokens"] is None else f"max_tokens {asked['max_tokens']:,}"
    return OutOfMemory(
        "question_too_large_for_memory",
        f"{rows} answers (prompts: {prompts}, n: {asked['n']}, {limit}) of up to {width:,} tokens each, with the "
        f"prompt, take {_gib(needed)} of memory for keys and values, and {_gib(max(free, 0))} are free",
        "Ask for fewer or shorter prompts, a smaller n or a smaller max_tokens.",
    )


def no_room_for(needed: int, free: int) -> OutOfMemory:
    """Return the error for a model whose weights do not fit even without other models."""
    return OutOfMemory(
        "model_too_large_for_memory",
        f"the weights of the model take {_gib(needed)} of memory, and {_gib(max(free, 0))} are free",
        "Choose a smaller model, or ask again once jobs on the same machine have ended.",
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
