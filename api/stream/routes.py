"""/v1/jobs/{id}/stream."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Response
from starlette.responses import StreamingResponse

from api.deps import CallerDep, Service, ServiceDep
from api.errors import documented
from api.jobs import service as jobs
from api.jobs.routes import AfterSeq
from api.stream.feed import Feed

router = APIRouter(prefix="/jobs", tags=["jobs"])

# One frame, as OpenAPI describes server-sent events.
_FRAME = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {
            "type": "string",
            "description": "The `seq` of the record; a client that reconnects sends it as Last-Event-ID.",
        },
        "data": {"type": "string", "description": "A record as JSON, or [DONE]."},
    },
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events. Each `data` is an event or the metrics of a step, with its `seq`; "
        "`data: [DONE]` ends the stream once the job has ended.",
        "content": {"text/event-stream": {"schema": _FRAME}},
    }
}
LastEventId = Annotated[
    int | None,
    Header(
        ge=0, le=2**53, description="The last id that a reconnecting client received; takes precedence over `after`."
    ),
]


@router.get("/{job_id}/stream", response_class=Response, responses=_STREAM | documented(401, 404, 422))
async def stream_job(
    service: ServiceDep, caller: CallerDep, job_id: str, after: AfterSeq = 0, last_event_id: LastEventId = None
) -> Response:
    """Follow a job: stream its events and metrics after a `seq`, until it has ended."""
    await to_thread.run_sync(_check, service, caller, job_id)
    start = after if last_event_id is None else last_event_id
    headers = {"X-Accel-Buffering": "no"}
    frames = _followed(service.feed, job_id, caller.key_id, start)
    return StreamingResponse(frames, media_type="text/event-stream", headers=headers)


def _check(service: Service, caller: CallerDep, job_id: str) -> None:
    with service.database.read() as session:
        jobs.find(session, caller, job_id)


async def _followed(feed: Feed, job_id: str, key_id: str, after: int) -> AsyncIterator[bytes]:
    with feed.join(job_id, key_id) as channel:
        async for frames in channel.follow(after, lambda: feed.may(key_id)):
            yield frames
