"""/v1/models, /v1/adapters and /v1/checkpoints: the same routes over three collections.

A reference is an id, `name` (its newest version) or `name/version`; the slash may be sent as it is or as %2F.
"""

from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import StringConstraints
from starlette.convertors import StringConvertor, register_url_convertor

from api.answers import Deleted, Page, answer
from api.deps import After, CallerDep, Limit, ObjectId, ServiceDep
from api.downloads import ARCHIVE, BINARY, archive_response, blob_response
from api.errors import documented
from api.models import service as models
from api.models.schemas import ArtifactObject, Lineage, Manifest
from api.models.service import NOUNS, Noun


class ReferenceConvertor(StringConvertor):
    """`name`, `name/3` or an id."""

    regex = "[^/]+(?:/[0-9]{1,18})?"


register_url_convertor("reference", ReferenceConvertor())

Name = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None,
    Query(description="All versions of this name."),
]
JobId = Annotated[ObjectId | None, Query(description="What this job made.")]


def _collection(noun: Noun) -> APIRouter:
    router = APIRouter(prefix=f"/{noun.path}", tags=[noun.path])
    one = "/{reference:reference}"

    @router.get("", response_model=Page[ArtifactObject], responses=documented(401, 422))
    def list_artifacts(  # noqa: PLR0913, PLR0917 - a listing's parameters
        service: ServiceDep,
        caller: CallerDep,
        name: Name = None,
        job_id: JobId = None,
        after: After = None,
        limit: Limit = 20,
    ) -> Response:
        """List them, newest first."""
        page = models.page(service, caller, noun, name=name, job_id=job_id, after=after, limit=limit)
        return answer(page)

    @router.get(one, response_model=ArtifactObject, responses=documented(401, 404))
    def show_artifact(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Show one."""
        return answer(models.show(service, caller, noun, reference))

    @router.get(one + "/versions", response_model=Page[ArtifactObject], responses=documented(401, 404, 422))
    def list_versions(
        service: ServiceDep, caller: CallerDep, reference: str, after: After = None, limit: Limit = 20
    ) -> Response:
        """List all versions of the same name, newest first."""
        name = models.show(service, caller, noun, reference).name
        page = models.page(service, caller, noun, name=name, job_id=None, after=after, limit=limit)
        return answer(page)

    @router.get(one + "/lineage", response_model=Lineage, responses=documented(401, 404))
    def show_lineage(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Tell what it was made from, by which job, and the same of all it was built on."""
        return answer(models.lineage(service, caller, noun, reference))

    @router.get(one + "/manifest", response_model=Manifest, responses=documented(401, 404))
    def show_manifest(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """List its files with their checksums."""
        return answer(models.manifest(service, caller, noun, reference))

    @router.get(one + "/files/{path:path}", response_class=Response, responses=BINARY | documented(401, 404, 416))
    def download_file(service: ServiceDep, caller: CallerDep, request: Request, reference: str, path: str) -> Response:
        """Download one file; `Range` and `If-None-Match` are honoured, the ETag is the sha256."""
        file = models.member(models.manifest(service, caller, noun, reference), path)
        return blob_response(
            request,
            service.blobs,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            filename=PurePosixPath(file.path).name,
        )

    @router.get(one + "/archive", response_class=Response, responses=ARCHIVE | documented(401, 404))
    def download_archive(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Download all files as one tar; extract it into a folder of its own."""
        manifest = models.manifest(service, caller, noun, reference)
        filename = manifest.reference.replace("/", "-") + ".tar"
        return archive_response(service.blobs, models.members(manifest), digest=manifest.digest, filename=filename)

    @router.delete(one, response_model=Deleted, responses=documented(401, 404, 409))
    def delete_artifact(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Delete one that no unfinished job needs; its lineage stays."""
        return answer(models.delete(service, caller, noun, reference))

    return router


router = APIRouter()
for _noun in NOUNS:
    router.include_router(_collection(_noun))
