"""Records of jobs as server-sent events."""

from typing import Any, NamedTuple

import orjson

from db import jobs, records
from db.records import Record
from db.session import Session
from db.state import ENDED

_MOST = 500
"""The most records of a batch."""


class Batch(NamedTuple):
    """What came after a `seq`, encoded once for all followers."""

    frames: bytes
    last_seq: int
    full: bool
    """Whether more may follow."""
    ended: bool
    """Whether the job had ended at that moment."""


def read_batch(session: Session, job_id: str, after: int) -> Batch:
    """Return what came after a `seq`, from one snapshot, so that nothing is lost between records and state."""
    job = jobs.find(session, job_id)
    found = records.since(session, job_id, after, _MOST)
    last_seq = found[-1].seq if found else after
    return Batch(b"".join(map(_frame, found)), last_seq, len(found) == _MOST, job is None or job.state in ENDED)


def _frame(record: Record) -> bytes:
    """Return a record as a frame; `data` repeats the `seq`, since OpenAI's clients pass on `data` only."""
    fields: dict[str, Any] = {
        "seq": record.seq,
        "type": record.type,
        "time": record.created_at,
        "attempt": record.attempt,
    }
    if record.type == "metrics":
        fields |= {"split": record.split, "step": record.step, "values": record.values}
    else:
        fields |= {"level": record.level, "message": record.message, "data": record.data}
    return b"id: %d\ndata: %b\n\n" % (record.seq, orjson.dumps(fields))
