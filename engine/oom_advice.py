"""Advice for a run that ran out of memory: the changes of its spec that would fit, by the memory plan."""

import torch

from engine.errors import OutOfMemory, SpecError
from engine.footprint import case_of, resident
from engine.forecast.room import as_text, enough_less, room_bytes, ways_out
from engine.parts import TrainingSpec
from engine.session import Session

_OF_EVALUATIONS = (
    "Lower evaluation.per_device_eval_batch_size or evaluation.max_length, and submit the job again. "
    "A batch that is scored has at most as many tokens as their product; one with fewer tokens than that stays as it is."
)


def explained(failure: OutOfMemory, session: Session) -> OutOfMemory:
    """Return the failure with a mend that names changes of which each would fit, logged as `memory_mends` too."""
    spec = session.spec
    if not isinstance(spec, TrainingSpec):  # such a spec has no fields of training
        return OutOfMemory(failure.code, failure.message, _OF_EVALUATIONS)
    if not session.is_loaded:  # the plan is one of training, and what ran out was the load of a result
        return failure
    try:
        case = case_of(spec, session)
        room = min(_room(session), enough_less(case))
        ways = ways_out(case, room)
    except SpecError:  # there are no plans for such a model: the general advice stands
        return failure
    if not ways:
        return failure
    mend = f"By the memory plan each of these fits by itself: {as_text(ways)}."
    mends = [{"edits": {edit.path: edit.value for edit in way.edits}, "total_bytes": way.total} for way in ways]
    session.journal.log("info", "memory_mends", mend, room_bytes=room, mends=mends)
    return OutOfMemory(failure.code, failure.message, mend)


def _room(session: Session) -> int:
    """Return the bytes that this rank could have used: its part of the free memory, and what it held itself."""
    free = room_bytes(session.machine, session.ranks.here_count)
    if session.machine.device.type == "cuda":
        return free + torch.cuda.memory_reserved(session.machine.device)
    return free + resident("VmRSS")
