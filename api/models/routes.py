"""/v1/models, /v1/adapters and /v1/checkpoints: the same routes for three collections.

A reference is an id, `name` (its newest version), `name/version` or `name@alias`; the slash may be sent literally or as %2F.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import StringConstraints
from starlette.convertors import StringConvertor, register_url_convertor

from api.answers import Deleted, Page, answer
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ObjectId, ServiceDep
from api.downloads import ARCHIVE, BINARY, archive_response, blob_response
from api.errors import ApiError, documented
from api.idempotency import ask_of
from api.models import imports
from api.models import service as models
from api.models.imports import ImportRequest
from api.models.schemas import Lineage, ModelObject, SignedManifest, SigningKey
from api.models.service import NOUNS, Noun
from api.turns import Claims


class ReferenceConvertor(StringConvertor):
    """`name`, `name/3` or an id."""

    regex = "[^/]+(?:/[0-9]{1,18})?"


register_url_convertor("reference", ReferenceConvertor())

Name = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None,
    Query(description="Only versions of this name."),
]
JobId = Annotated[ObjectId | None, Query(description="Only artifacts that this job made.")]
Kind = Annotated[
    Literal["model", "adapter", "checkpoint"] | None,
    Query(description="Only artifacts of this kind; default: all kinds in the collection."),
]
After = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$")] | None,
    Query(description="The last id of the previous page, which is not repeated."),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="The maximum number of objects on the page.")]


_ONE = "/{reference:reference}"


def _collection(noun: Noun) -> APIRouter:
    router = APIRouter(prefix=f"/{noun.path}", tags=[noun.path])
    _add_listing(router, noun)
    if noun.singular != "checkpoint":  # checkpoints have no names, and so no versions
        _add_versions(router, noun)
    _add_facts(router, noun)
    _add_downloads(router, noun)
    return router


def _add_listing(router: APIRouter, noun: Noun) -> None:
    @router.get("", name=f"list_{noun.path}", response_model=Page[noun.shown], responses=documented(401, 422))
    def list_artifacts(
        service: ServiceDep,
        caller: CallerDep,
        name: Name = None,
        job_id: JobId = None,
        kind: Kind = None,
        after: After = None,
        limit: Limit = noun.page_size,
    ) -> Response:
        """List the artifacts of the collection, newest first."""
        page = models.page(service, caller, noun, name=name, job_id=job_id, after=after, limit=limit, kind=kind)
        return answer(page)


def _add_versions(router: APIRouter, noun: Noun) -> None:
    @router.get(
        _ONE + "/versions",
        name=f"list_{noun.singular}_versions",
        response_model=Page[noun.shown],
        responses=documented(401, 404, 422),
    )
    def list_versions(
        service: ServiceDep, caller: CallerDep, reference: str, after: After = None, limit: Limit = 20
    ) -> Response:
        """List all versions of the same name, newest first."""
        shown = models.show(service, caller, noun, reference)
        page = models.page(
            service, caller, noun, name=shown.name, job_id=None, after=after, limit=limit, kind=shown.kind
        )
        return answer(page)


def _add_facts(router: APIRouter, noun: Noun) -> None:
    @router.get(_ONE, name=f"show_{noun.singular}", response_model=noun.shown, responses=documented(401, 404))
    def show_artifact(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Show an artifact."""
        return answer(models.show(service, caller, noun, reference))

    @router.get(
        _ONE + "/lineage", name=f"show_{noun.singular}_lineage", response_model=Lineage, responses=documented(401, 404)
    )
    def show_lineage(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Show what the artifact and its ancestors were made from and by which jobs, and what came of it."""
        return answer(models.lineage(service, caller, noun, reference))

    @router.get(
        _ONE + "/manifest",
        name=f"show_{noun.singular}_manifest",
        response_model=SignedManifest,
        responses=documented(401, 404),
    )
    def show_manifest(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Show the files of the artifact with their checksums, and a signed statement of its origin."""
        return answer(models.signed_manifest(service, caller, noun, reference))

    @router.delete(_ONE, name=f"delete_{noun.singular}", response_model=Deleted, responses=documented(401, 404, 409))
    def delete_artifact(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Delete an artifact that no unfinished job and no alias needs; its lineage stays.

        An adapter's weights are also in the result file of its job, which is deleted separately.
        """
        return answer(models.delete(service, caller, noun, reference))


def _add_downloads(router: APIRouter, noun: Noun) -> None:
    @router.get(
        _ONE + "/files/{path:path}",
        name=f"download_{noun.singular}_file",
        response_class=Response,
        responses=BINARY | documented(401, 404, 416),
    )
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

    @router.get(
        _ONE + "/archive",
        name=f"download_{noun.singular}_archive",
        response_class=Response,
        responses=ARCHIVE | documented(401, 404),
    )
    def download_archive(service: ServiceDep, caller: CallerDep, reference: str) -> Response:
        """Download all files as one tar; extract it into a folder of its own."""
        manifest = models.manifest(service, caller, noun, reference)
        filename = manifest.reference.replace("/", "-") + ".tar"
        return archive_response(service.blobs, models.members(manifest), digest=manifest.digest, filename=filename)


router = APIRouter()
_IMPORTS_AT_ONCE = CapacityLimiter(2)
"""Each import may hold a tokenizer of 32 MiB in memory."""
_IMPORTING = Claims()
"""The projects whose imports run or wait for their turn."""


@router.post(
    "/models",
    name="import_model",
    tags=["models"],
    status_code=201,
    response_model=ModelObject,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 507),
    openapi_extra=documented_body(ImportRequest),
)
async def import_model(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Import a model of a known family from uploaded files: safetensors, config and tokenizer, but no code."""
    asked = await read_as(ImportRequest, request, service.settings.max_body_bytes)
    ask = ask_of(request, caller, asked.model_dump(mode="json"))
    made = await to_thread.run_sync(imports.answered, service, ask)
    if made is None:
        with _IMPORTING.claim(caller.project_id, _importing()):
            made = await to_thread.run_sync(imports.create, service, caller, asked, ask, limiter=_IMPORTS_AT_ONCE)
    return answer(made, 201, {"Location": f"/v1/models/{made.artifact_id}"})


def _importing() -> ApiError:
    message = "the project is importing another model; one at a time is imported"
    return ApiError(429, "import_under_way", message, headers={"Retry-After": "30"})


@router.get("/signing-key", tags=["models"], response_model=SigningKey, responses=documented(401))
def show_signing_key(service: ServiceDep, _caller: CallerDep) -> Response:
    """Show the public key of the installation, which verifies signed manifests."""
    return answer(SigningKey(keyid=service.manifest_signer.key_id, public_key=service.manifest_signer.public_pem))


for _noun in NOUNS:
    router.include_router(_collection(_noun))
