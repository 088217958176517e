"""Imports: models from uploaded files, which are checked before any of their content is trusted."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, Fault, conflict
from api.files.upload import MODEL_PURPOSE
from api.idempotency import once, remembered
from api.models.schemas import ModelObject, model_object
from api.spend.service import require_room, require_storage
from db import artifacts, audit, files, projects
from db.artifacts import FileEntry
from db.blobs import Blob
from db.idempotency import IdempotentRequest
from db.models import File
from engine.imports import Checked, ImportFault, Piece, check_model, members
from engine.parts.part import FileId, Name

_MAX_FILES = 128
"""The most files of an import, all of which are open at once; a model of more files is sent as a tar."""
_ARCHIVE = ".tar"


class ImportRequest(BaseModel):
    """A model of the Llama, Mistral, Qwen2, Qwen3 or GPT-2 family, from files uploaded with purpose `model`.

    The files are those of the model's folder, with the same names, or one tar of it.
    """

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="The name of the model; each import under the same name is its next version.")
    licence: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$")] = Field(
        description="The SPDX identifier of the weights' licence, such as apache-2.0; LicenseRef-... for a custom one."
    )
    files: Annotated[list[FileId], Field(min_length=1, max_length=_MAX_FILES)] = Field(
        description="The ids of the uploaded files."
    )
    source: Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = Field(
        default=None, description="Where the files came from, as a note for people: nothing is fetched from there."
    )


def create(service: Service, caller: Caller, asked: ImportRequest, ask: IdempotentRequest | None) -> ModelObject:
    """Import a model, or return the one that the same request made before.

    Raises:
        ApiError: 404 for a missing file, 403 over budget, 422 for a model that is not accepted, with place and mend.
        LowSpace: the disk is nearly full.
    """
    service.blobs.require_space()
    rows = _rows(service, caller, asked.files)
    with _opened(service, rows) as found:
        try:
            pieces = _pieces(rows, found)
            checked = check_model(pieces)
        except ImportFault as fault:
            raise _refused(fault) from fault
        require_storage(service, caller, _size_bytes(pieces, checked))
        entries = _stored(service, rows, pieces, checked)
    return _published(service, caller, asked, ask, checked, entries)


def answered(service: Service, ask: IdempotentRequest | None) -> ModelObject | None:
    """Return the model that the same request made before, so that its files need not be read again."""
    if ask is None:
        return None
    with service.database.write() as session:
        return remembered(session, ask, ModelObject)


def _size_bytes(pieces: Mapping[str, Piece], checked: Checked) -> int:
    as_is = sum(pieces[name].size_bytes for name in checked.as_is)
    return as_is + sum(map(len, checked.rewritten.values()))


def _rows(service: Service, caller: Caller, file_ids: Sequence[str]) -> list[File]:
    with service.database.read() as session:
        found = [(file_id, files.get(session, caller.project_id, file_id)) for file_id in file_ids]
    rows = []
    for at, (file_id, row) in enumerate(found):
        if row is None:
            message = f"there is no file {file_id!r} in this project"
            raise ApiError(404, "file_not_found", message, param=f"files.{at}")
        if row.purpose != MODEL_PURPOSE:
            message = f"{file_id} was uploaded with purpose {row.purpose!r}; upload it with {MODEL_PURPOSE!r}"
            raise ApiError(422, "wrong_purpose", message, param=f"files.{at}")
        rows.append(row)
    return rows


@contextmanager
def _opened(service: Service, rows: Sequence[File]) -> Iterator[list[Piece]]:
    with ExitStack() as stack:
        yield [Piece(stack.enter_context(service.blobs.open(row.sha256)), 0, row.size_bytes) for row in rows]


def _pieces(rows: Sequence[File], opened: Sequence[Piece]) -> dict[str, Piece]:
    """Return the model's files by name: the members of the tar, or the uploaded files."""
    if len(rows) == 1 and rows[0].filename.lower().endswith(_ARCHIVE):
        return members(opened[0])
    found: dict[str, Piece] = {}
    for row, piece in zip(rows, opened, strict=True):
        if row.filename in found:
            raise ImportFault("file_twice", row.filename, "is named twice", "name each file once")
        found[row.filename] = piece
    return found


def _stored(service: Service, rows: Sequence[File], pieces: Mapping[str, Piece], checked: Checked) -> list[FileEntry]:
    """Return the model's files, all stored as blobs: uploaded files are that already, members of a tar are copied.

    At the end each copy is renewed, or stored again if it was removed meanwhile: no row refers to it yet.
    """
    own = {row.filename: row for row in rows}  # a tar matches none of the names: no file of a model ends in .tar

    def copy(name: str) -> FileEntry:
        content = checked.rewritten.get(name)
        return FileEntry(name, *_copied(service, pieces[name].chunks() if content is None else [content]))

    named, copied = [], []
    for name in (*checked.as_is, *checked.rewritten):
        row = own.get(name) if name in checked.as_is else None
        if row is not None and service.blobs.exists(row.sha256):
            named.append(FileEntry(name, row.sha256, row.size_bytes))
        else:
            copied.append(copy(name))
    return named + [entry if service.blobs.renew(entry.sha256) else copy(entry.path) for entry in copied]


def _copied(service: Service, chunks: Iterator[bytes] | list[bytes]) -> Blob:
    with service.blobs.writer() as writer:
        for chunk in chunks:
            writer.write(chunk)
        return writer.commit()


def _published(
    service: Service,
    caller: Caller,
    asked: ImportRequest,
    ask: IdempotentRequest | None,
    checked: Checked,
    entries: list[FileEntry],
) -> ModelObject:
    with service.database.write() as session:
        project = projects.get(session, caller.project_id)
        assert project is not None, "the caller's key belongs to it"
        rows = [files.keep(session, caller.project_id, file_id) for file_id in asked.files]
        there = [row for row in rows if row is not None]
        if len(there) < len(rows):
            raise conflict("file_gone", "a file was deleted while the model was being checked; upload it again")
        lineage = {
            "kind": "import",
            "family": checked.family,
            "parameters": checked.parameters,
            "source": asked.source,
            "imported_by": caller.key_id,
            "files": [{"id": row.id, "filename": row.filename, "sha256": row.sha256} for row in there],
            "left_out": checked.left_out,
        }

        def make() -> ModelObject:
            require_room(session, caller, None, new_bytes=sum(entry.size_bytes for entry in entries))
            artifact = artifacts.publish_import(
                session, caller.project_id,
                name=asked.name, files=entries, lineage=lineage, licence=asked.licence, limits=checked.limits,
            )  # fmt: skip
            audit.note(session, "model.import", artifact.id)
            return model_object(artifact, project)

        return once(session, ask, ModelObject, make)


def _refused(fault: ImportFault) -> ApiError:
    details = Fault(code=fault.code, path=fault.place, message=fault.message, hint=fault.mend)
    return ApiError(422, fault.code, str(fault), param="files", faults=[details])
