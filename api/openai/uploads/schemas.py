"""Uploads as OpenAI's clients send and read them."""

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers import Object
from api.files.schemas import FileObject, file_object
from api.files.upload import ALL_PURPOSES, EXPIRES_AFTER_S
from db.models import File, Upload, UploadPart

MAX_PARTS = 10_000


class ExpiresAfter(BaseModel):
    """When the file is to be deleted automatically."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=EXPIRES_AFTER_S[0], le=EXPIRES_AFTER_S[1])]


class UploadRequest(BaseModel):
    """The body of `uploads.create`. Rows are checked as in any file, regardless of `mime_type`."""

    model_config = ConfigDict(extra="forbid")

    bytes: Annotated[int, Field(ge=1, le=2**53)]
    filename: Annotated[str, Field(min_length=1, max_length=1024)]
    mime_type: Annotated[str, Field(max_length=256)]
    purpose: str = Field(json_schema_extra={"enum": list(ALL_PURPOSES)})
    expires_after: ExpiresAfter | None = None


class CompleteRequest(BaseModel):
    """The parts in their order, and the checksum of the whole."""

    model_config = ConfigDict(extra="forbid")

    part_ids: Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=MAX_PARTS)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


class UploadObject(Object):
    """A file that is being uploaded in parts."""

    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None


class PartObject(Object):
    """A part that has arrived."""

    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def has_expired(upload: Upload) -> bool:
    return upload.state == "pending" and upload.expires_at <= time.time()


def upload_object(upload: Upload, file: File | None = None) -> UploadObject:
    fields: dict[str, Any] = {
        "id": upload.id,
        "bytes": upload.size_bytes,
        "created_at": int(upload.created_at),
        "expires_at": int(upload.expires_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": "expired" if has_expired(upload) else upload.state,
        "file": None if file is None else file_object(file),
    }
    return UploadObject.model_validate(fields)


def part_object(part: UploadPart) -> PartObject:
    return PartObject(id=part.id, created_at=int(part.created_at), upload_id=part.upload_id)


# The body is read while it streams in, so FastAPI cannot derive its schema.
PART_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "additionalProperties": False,
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
