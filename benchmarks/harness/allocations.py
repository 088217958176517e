"""The peak of bytes in torch's CPU allocator, every allocation counted, as a GPU's allocator counts its own."""

import gc
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_of(work: Callable[[], None]) -> int:
    """Return the peak of bytes held by `work` beyond those held before it; each allocation costs a microsecond.

    Resident memory would also count what the C library keeps of freed blocks, which changes from run to run.
    """
    gc.collect()  # what is garbage by now, and would be found on the way, is not given back by `work`
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    assert recorded.profiler is not None, "it has run"
    results: Any = recorded.profiler.kineto_results
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = highest = 0
    for _, change in changes:
        held += change
        highest = max(highest, held)
    return highest
