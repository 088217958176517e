"""Records as frames of server-sent events."""

from typing import Any, NamedTuple

import orjson

from db import jobs, records
from db.records import Record
from db.session import Session
from db.state import ENDED

_MOST = 500
"""Records of a batch."""


class Batch(NamedTuple):
    """What came after one number, encoded once for all who are sent it."""

    frames: bytes
    last_seq: int
    full: bool
    """More may follow."""
    ended: bool
    """At that moment the job had ended."""


def read_batch(session: Session, job_id: str, after: int) -> Batch:
    """Records and the job's state are of one snapshot, so nothing falls between."""
    job = jobs.find(session, job_id)
    told = records.since(session, job_id, after, _MOST)
    last_seq = told[-1].seq if told else after
    return Batch(b"".join(map(_frame, told)), last_seq, len(told) == _MOST, job is None or job.state in ENDED)


def _frame(record: Record) -> bytes:
    """OpenAI's clients hand on `data` alone, so the number stands inside it too."""
    told: dict[str, Any] = {
        "seq": record.seq,
        "type": record.type,
        "time": record.created_at,
        "attempt": record.attempt,
    }
    if record.type == "metrics":
        told |= {"split": record.split, "step": record.step, "values": record.values}
    else:
        told |= {"level": record.level, "message": record.message, "data": record.data}
    return b"id: %d\ndata: %b\n\n" % (record.seq, orjson.dumps(told))
