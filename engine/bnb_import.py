"""bitsandbytes, imported without torch's compiler: to be imported before anything else that imports it, as peft does.

It decorates two functions with `torch.compile`, which imports the compiler on the spot: a third of all that an engine
has to import before it can begin, for functions that most runs never call.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def _at_the_first_call(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`torch.compile`, as late as it can be."""
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
