"""Dependencies of routes: the service, the caller, and the parameters of pages."""

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
from db.webhook_secrets import WebhookSecrets
from workers.queue import Dispatcher

if TYPE_CHECKING:
    from api.group_commit import GroupWriter
    from api.jobs.intake import Submission
    from api.jobs.schemas import JobObject

__all__ = ["After", "CallerDep", "Limit", "ObjectId", "Order", "SeriesLimit", "Service", "ServiceDep"]

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """The objects that all requests of one API process share."""

    settings: ApiSettings
    database: Database
    curve_cache: CurveCache
    blobs: BlobStore
    keyring: Keyring
    feed: Feed
    dispatcher: Dispatcher
    desk: Desk
    webhook_secrets: WebhookSecrets
    receivers: Receivers
    manifest_signer: Signer
    intake: "GroupWriter[Submission, JobObject]"

    async def look(self, read: Callable[..., T], *args: Any) -> T:
        """Run a short read: on the event loop where that is quicker than handing it to a thread, otherwise in a thread."""
        return read(*args) if self.database.local else await to_thread.run_sync(read, *args)


async def _service(request: Request) -> Service:
    return request.app.state.service


ServiceDep = Annotated[Service, Depends(_service)]

OBJECT_ID = r"^[a-z]{1,16}-[0-9a-z]{1,64}$"
ObjectId = Annotated[str, StringConstraints(pattern=OBJECT_ID)]
Limit = Annotated[int, Query(ge=1, le=100, description="The maximum number of objects on the page.")]
SeriesLimit = Annotated[int, Query(ge=1, le=1000, description="The maximum number of rows on the page.")]
After = Annotated[ObjectId | None, Query(description="The last id of the previous page, which is not repeated.")]
Order = Annotated[Literal["asc", "desc"], Query(description="The order by creation time; desc is newest first.")]
