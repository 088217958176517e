"""Exceptions as failures: the class and the message that the user gets."""

import torch
import torch.distributed as dist

from engine.errors import EngineError, OutOfMemory, TouchLost

_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate memory")
_TRAIN_WITH_LESS = (
    "Lower per_device_train_batch_size (and raise gradient_accumulation_steps), lower max_length, or turn "
    "activation_checkpointing on."
)


def classified(error: Exception, *, less: str = _TRAIN_WITH_LESS) -> EngineError:
    """Return the failure to report for an exception; `less` is the advice for using less memory."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    if is_out_of_memory(error):
        return OutOfMemory(
            "out_of_memory",
            f"ran out of memory: {text.splitlines()[0] if text else 'an allocation failed'}",
            less,
        )
    if is_touch_lost(error):
        return TouchLost(f"another process of the run is gone or does not answer: {text}")
    return EngineError(
        "unexpected",
        f"{type(error).__name__}: {text}" if text else type(error).__name__,
        "Read engine.log in the run directory.",
    )


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an exception means that the device or the machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in _NO_MEMORY)


def is_touch_lost(error: Exception) -> bool:
    """Return whether an exception means that another rank is gone or does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
