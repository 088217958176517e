"""A run that ran out of memory: what of its spec to change so that it fits, by the plan."""

import torch

from engine.errors import OutOfMemory, SpecError
from engine.footprint import case_of, resident
from engine.forecast.room import enough_less, room_bytes, told, ways_out
from engine.parts import TrainingSpec
from engine.session import Session

_OF_EVALUATIONS = "Lower evaluation.per_device_eval_batch_size or evaluation.max_length, and submit the job again."


def explained(failure: OutOfMemory, session: Session) -> OutOfMemory:
    """The same failure, its mend the changes that would fit, each by itself; they are told as `memory_mends` too."""
    spec = session.spec
    if not isinstance(spec, TrainingSpec):  # nothing of what is said of training is in such a spec
        return OutOfMemory(failure.code, failure.message, _OF_EVALUATIONS)
    try:
        case = case_of(spec, session)
        room = min(_room(session), enough_less(case))
        ways = ways_out(case, room)
    except SpecError:  # nothing is planned for such a model: what can be said in general stands
        return failure
    if not ways:
        return failure
    mend = f"By the memory plan each of these fits by itself: {told(ways)}."
    mends = [{"edits": {edit.path: edit.value for edit in way.edits}, "total_bytes": way.total} for way in ways]
    session.journal.log("info", "memory_mends", mend, room_bytes=room, mends=mends)
    return OutOfMemory(failure.code, failure.message, mend)


def _room(session: Session) -> int:
    """What this rank could have had: its part of what is free, and what it held itself."""
    free = room_bytes(session.machine, session.ranks.here_count)
    if session.machine.device.type == "cuda":
        return free + torch.cuda.memory_reserved(session.machine.device)
    return free + resident("VmRSS")
