"""What routes are given: the service, the caller, and the wanted page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from anyio import to_thread
from fastapi import Depends, Query, Request
from pydantic import StringConstraints

from api.auth import CallerDep, Keyring
from api.desk import Desk
from api.manifest_signing import Signer
from api.settings import ApiSettings
from api.stream.feed import Feed
from db.blobs import BlobStore
from db.curve_cache import CurveCache
from db.receivers import Receivers
from db.session import Database
from db.webhook_secrets import Signing
from workers.queue import Dispatcher

if TYPE_CHECKING:
    from api.group_commit import GroupWriter
    from api.jobs.schemas import JobObject
    from api.jobs.submit import Submission

__all__ = ["After", "CallerDep", "Limit", "ObjectId", "Order", "SeriesLimit", "Service", "ServiceDep"]

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """What one API process works with."""

    settings: ApiSettings
    database: Database
    shelf: CurveCache
    blobs: BlobStore
    keyring: Keyring
    feed: Feed
    dispatcher: Dispatcher
    desk: Desk
    signing: Signing
    receivers: Receivers
    signer: Signer
    intake: "GroupWriter[Submission, JobObject]"

    async def look(self, read: Callable[..., T], *args: Any) -> T:
        """A short read: here where that is quicker, else in a thread."""
        return read(*args) if self.database.local else await to_thread.run_sync(read, *args)


async def _service(request: Request) -> Service:
    return request.app.state.service


ServiceDep = Annotated[Service, Depends(_service)]

ObjectId = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}-[0-9a-z]{1,64}$")]
Limit = Annotated[int, Query(ge=1, le=100, description="Objects on a page.")]
SeriesLimit = Annotated[int, Query(ge=1, le=1000, description="Rows on a page.")]
After = Annotated[ObjectId | None, Query(description="The last id of the page before; it is not repeated.")]
Order = Annotated[Literal["asc", "desc"], Query(description="By age: desc is newest first.")]
