"""Files as the API shows them."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Object
from api.files.upload import ALL_PURPOSES, EXPIRES_AFTER_S
from db.models import File
from engine.rows import FORMATS

MADE_PURPOSES = ("fine-tune-results", "eval-results")
"""Purposes of the files that jobs make."""


class FileObject(Object):
    """A file that was uploaded, or that a job made. `format` is the format of its rows, if it has any."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    sha256: str
    format: str = Field(json_schema_extra={"enum": [*FORMATS, "unchecked", "items", "archive"]})
    row_count: int
    expires_at: int | None


def file_object(file: File) -> FileObject:
    return FileObject.model_validate(
        {
            "id": file.id,
            "bytes": file.size_bytes,
            "created_at": int(file.created_at),
            "filename": file.filename,
            "purpose": file.purpose,
            "sha256": file.sha256,
            "format": file.format,
            "row_count": file.row_count,
            "expires_at": None if file.expires_at is None else int(file.expires_at),
        }
    )


# The body is read while it streams in, so FastAPI cannot derive its schema.
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["purpose", "file"],
                    "additionalProperties": False,
                    "properties": {
                        "purpose": {
                            "type": "string",
                            "enum": list(ALL_PURPOSES),
                            "description": "What the file is for. fine-tune: preference (dpo), chat, prompt/completion or "
                            "instruction rows; pretrain: text; evals: the same except preference rows, and multiple "
                            "choice or items for graders; model: a file of a model to import, or a tar of all of them. "
                            "Files with another purpose are not checked. Send it before the file.",
                        },
                        "expires_after[anchor]": {
                            "type": "string",
                            "enum": ["created_at"],
                            "description": "The time from which `expires_after[seconds]` counts.",
                        },
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": EXPIRES_AFTER_S[0],
                            "maximum": EXPIRES_AFTER_S[1],
                            "description": "The number of seconds after which the file is deleted.",
                        },
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "The content: JSON Lines, or plain text in a .txt file, in UTF-8.",
                        },
                    },
                }
            }
        },
    }
}
