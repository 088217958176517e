"""Imports bitsandbytes without torch's compiler; import this before anything that imports it, as peft does.

bitsandbytes decorates two functions with `torch.compile`, which imports the compiler at once: a third of the engine's
import time, for functions that most runs never call.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def _at_the_first_call(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Stand in for `torch.compile`, and compile at the first call."""
    compiled: Callable[..., Any] | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        compiled = compiled or _compile(function, **options)
        return compiled(*args, **kwargs)

    return call


_compile = torch.compile
torch.compile = _at_the_first_call
try:
    import bitsandbytes  # noqa: F401
finally:
    torch.compile = _compile
