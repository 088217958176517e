"""The frames of a live stream: replay from the database, then news as they come, then the end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from anyio import to_thread

from api.deps import Service
from db import jobs, records
from db.records import Record
from db.state import ENDED

_BATCH = 500
_PING_S = 15.0
_RECONNECT = b"retry: 1000\n\n"
_PING = b": ping\n\n"
_DONE = b"data: [DONE]\n\n"


async def frames(service: Service, job_id: str, after: int) -> AsyncIterator[bytes]:
    """Everything after the number `after`, until the job has ended and all is told."""
    yield _RECONNECT
    with service.feed.watch(job_id) as news:
        while not service.feed.closing:
            news.clear()  # before the look: what comes during it sets it again
            told, ended = await to_thread.run_sync(_look, service, job_id, after)
            if told:
                after = told[-1].seq
                yield b"".join(map(_frame, told))
            if len(told) == _BATCH:
                continue
            if ended:
                yield _DONE
                return
            try:
                await asyncio.wait_for(news.wait(), _PING_S)
            except TimeoutError:
                yield _PING


def _look(service: Service, job_id: str, after: int) -> tuple[list[Record], bool]:
    """What is new, and whether the job had ended at that moment: one snapshot, so nothing falls between."""
    with service.database.read() as session:
        job = jobs.find(session, job_id)
        ended = job is None or job.state in ENDED
        return records.since(session, job_id, after, _BATCH), ended


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
