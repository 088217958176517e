"""Memory for answers: what is kept of each token that was read or written, and how much of it may be."""

from typing import Any

import torch

from engine.chat.talk import rows_of
from engine.errors import OutOfMemory
from engine.forecast.room import room_bytes
from engine.precision import Machine

_COPIES = 2
"""Where a batch takes in another, both are there and what comes of them: half of what is free stays so for that."""
_SPARE_BYTES = 256 << 20
"""For what a step computes beside keys and values, and for what others of the machine take meanwhile."""


class NotNow(Exception):
    """There is no memory for a question beside what is answered; there may be when that has come to its end."""


def values_of(config: Any) -> int:
    """Numbers that a model keeps of a token: its keys and values in each layer."""
    told = config.get_text_config()
    heads = getattr(told, "num_key_value_heads", None) or told.num_attention_heads
    width = getattr(told, "head_dim", None) or told.hidden_size // told.num_attention_heads
    return 2 * layers_of(config) * heads * width


def layers_of(config: Any) -> int:
    return config.get_text_config().num_hidden_layers


def step_bytes(layer_bytes: int) -> int:
    """What has to be free for a step, and for a row to leave: they copy keys and values, one layer after the other."""
    return 2 * layer_bytes + _SPARE_BYTES


def free_bytes(machine: Machine) -> int:
    """What answers may come to take beside what they take now."""
    return unused_bytes(machine) // _COPIES


def unused_bytes(machine: Machine) -> int:
    """What nobody takes now."""
    free = room_bytes(machine)
    if machine.device.type == "cuda":  # what torch has of the device and does not use is ours too
        free += torch.cuda.memory_reserved(machine.device) - torch.cuda.memory_allocated(machine.device)
    return free


def no_room(asked: dict[str, Any], width: int, needed: int, free: int) -> OutOfMemory:
    """Why a question is not taken that nothing else is answered beside: it would be told the same again."""
    rows, prompts = rows_of(asked), len(asked.get("prompts", [""]))
    limit = "no max_tokens" if asked["max_tokens"] is None else f"max_tokens {asked['max_tokens']:,}"
    return OutOfMemory(
        "question_too_large_for_memory",
        f"{rows} answers (prompts: {prompts}, n: {asked['n']}, {limit}) with room for {width:,} tokens each, the prompt's among "
        f"them, take {_gib(needed)} of memory for keys and values, and {_gib(max(free, 0))} are free for them",
        "Ask for fewer or shorter prompts, a smaller n or a smaller max_tokens.",
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
