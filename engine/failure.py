"""What went wrong, in the words and the class in which the user is told."""

import torch

from engine.dist.ranks import is_loss_of_touch
from engine.errors import EngineError, OutOfMemory, TouchLost

_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate memory")
_TRAIN_WITH_LESS = (
    "Lower per_device_train_batch_size (and raise gradient_accumulation_steps), lower max_length, or turn "
    "activation_checkpointing on."
)


def classified(error: Exception, *, less: str = _TRAIN_WITH_LESS) -> EngineError:
    """What the user is told of an exception; `less`: how to do with less memory."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    if is_loss_of_touch(error):
        return TouchLost(f"another process of the run is gone or does not answer: {text}")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(words in text for words in _NO_MEMORY)
    ):
        return OutOfMemory(
            "out_of_memory",
            f"ran out of memory: {text.splitlines()[0] if text else 'an allocation failed'}",
            less,
        )
    return EngineError(
        "unexpected",
        f"{type(error).__name__}: {text}" if text else type(error).__name__,
        "Read engine.log in the run directory.",
    )
